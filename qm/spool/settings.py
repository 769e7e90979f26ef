"""Finding and reading QMserv.cfg."""

from __future__ import annotations

import os

from qm.vocabulary.config import Settings, read_settings
from qm.vocabulary.errors import ConfigError

FILE_NAME = "QMserv.cfg"
MAX_CONFIG = 1 << 20


def candidates() -> tuple[str, ...]:
    """Where a configuration is looked for, in this order, when no `-c` is given."""
    named = os.environ.get("QM_CONFIG")
    if named:
        return (named,)
    return (FILE_NAME, os.path.expanduser(f"~/.config/qm/{FILE_NAME}"), f"/etc/qm/{FILE_NAME}")


def find_config(path: str | None) -> str:
    """The absolute path of the configuration to use. ConfigError when there is none."""
    if path is not None:
        path = _in_folder(path)
        if not os.path.exists(path):
            raise ConfigError(f"{path}: no such file; `qm init DIR` makes a new spool with a QMserv.cfg")
        return os.path.abspath(path)
    for candidate in map(_in_folder, candidates()):
        if os.path.exists(candidate):
            return os.path.abspath(candidate)
    looked = ", ".join(candidates())
    raise ConfigError(
        f"no QMserv.cfg found (looked for {looked}); `qm init DIR` makes a new spool with one, "
        "`-c FILE`, config= in Python, or $QM_CONFIG names one"
    )


def _in_folder(path: str) -> str:
    """A folder stands for the QMserv.cfg in it."""
    return os.path.join(path, FILE_NAME) if os.path.isdir(path) else path


def load_settings(path: str | None) -> Settings:
    """Find and read the configuration. ConfigError says file, line, key, value and what is accepted."""
    file = find_config(path)
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_CONFIG + 1)
    except OSError as err:
        raise ConfigError(f"{file}: {err.strerror}") from err
    if len(data) > MAX_CONFIG:
        raise ConfigError(f"{file}: larger than 1 MiB; that is no QMserv.cfg")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise ConfigError(f"{file}: not UTF-8 text (byte {err.start}); save it as UTF-8") from err
    return read_settings(text, file)
