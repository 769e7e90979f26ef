"""A systemd unit for this installation (systemd.service(5))."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.resources import files

from qm.spool.settings import find_config, load_settings


def unit_text(config: str | None) -> str:
    """The unit in the package, with this installation's program and this configuration filled in. ConfigError."""
    file = find_config(config)
    settings = load_settings(file)
    beside = os.path.join(os.path.dirname(sys.executable), "QueueManager")
    program = beside if os.path.exists(beside) else shutil.which("QueueManager") or beside
    text = files("qm").joinpath("data/QueueManager.service").read_text(encoding="utf-8")
    return text.replace("@PROGRAM@", program).replace("@CONFIG@", file).replace("@FOLDER@", settings.folder)
