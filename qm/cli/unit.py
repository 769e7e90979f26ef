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
    text = text.replace("@PROGRAM@", quoted(program))
    text = text.replace("@CONFIG@", quoted(file.replace("$", "$$")))  # an argument: `$` begins a variable there
    return text.replace("@FOLDER@", quoted(os.path.realpath(settings.folder)))


def quoted(path: str) -> str:
    """A path as systemd reads it back: `%` doubled, in quotes unless all its characters are plain.

    Rules of systemd.unit(5) (specifiers) and systemd.service(5) (COMMAND LINES).
    """
    doubled = path.replace("%", "%%")
    if all(char.isalnum() or char in "/._-+:@,%$" for char in doubled):
        return doubled
    escaped = doubled.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
