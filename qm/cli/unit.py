"""A systemd unit for this installation (systemd.service(5))."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.resources import files

from qm.spool.settings import find_config, load_settings

SUBGROUPS = 254
"""The first version of systemd that knows DelegateSubgroup (systemd.resource-control(5))."""


def unit_text(config: str | None) -> str:
    """The unit in the package, with this installation's program and this configuration filled in. ConfigError."""
    file = find_config(config)
    settings = load_settings(file)
    beside = os.path.join(os.path.dirname(sys.executable), "QueueManager")
    program = beside if os.path.exists(beside) else shutil.which("QueueManager") or beside
    text = files("qm").joinpath("data/QueueManager.service").read_text(encoding="utf-8")
    text = text.replace("@PROGRAM@", quoted(program))
    text = text.replace("@CONFIG@", quoted(file.replace("$", "$$")))  # an argument: `$` begins a variable there
    text = text.replace("@FOLDER@", quoted(os.path.realpath(settings.folder)))
    if _systemd_version() < SUBGROUPS:
        text = text.replace("DelegateSubgroup=qm-daemon\n", "")
    return text


def _systemd_version() -> int:
    """The version of systemd here; 0 where there is none."""
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=10, check=True)
        return int(said.stdout.split()[1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0


def quoted(path: str) -> str:
    """A path as systemd reads it back: `%` doubled, in quotes unless all its characters are plain.

    Rules of systemd.unit(5) (specifiers) and systemd.service(5) (COMMAND LINES).
    """
    doubled = path.replace("%", "%%")
    if all(char.isalnum() or char in "/._-+:@,%$" for char in doubled):
        return doubled
    escaped = doubled.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
