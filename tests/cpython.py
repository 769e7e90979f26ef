"""CPython's own tests of executors and pools, wherever they are installed. Nothing is copied: they are imported."""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
import pkgutil
import sys
import unittest
from types import ModuleType
from typing import Any

NAME = "test_concurrent_futures"
POOLS = "_test_multiprocessing"


class Suite:
    """One module up to Python 3.11, a package of modules later: where a class stands does not matter here."""

    def __init__(self, top: ModuleType) -> None:
        self.modules = [top]
        for found in pkgutil.iter_modules(getattr(top, "__path__", ())):
            self.modules.append(importlib.import_module(f"{top.__name__}.{found.name}"))

    def __getattr__(self, name: str) -> Any:
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"{self.modules[0].__file__} has no {name}")

    def put(self, name: str, value: object) -> None:
        """Let the suite mean something else by a name, wherever it uses it."""
        for module in self.modules:
            if hasattr(module, name):
                setattr(module, name, value)


def installed(name: str = NAME) -> list[str]:
    """The folders on this machine that hold a suite, that of the nearest Python version first."""
    roots = [sys.base_prefix, "/usr", "/usr/local", *glob.glob(os.path.expanduser("~/.pyenv/versions/*"))]
    found = {
        path for root in roots for path in glob.glob(f"{root}/lib/python3.*/test/{name}*") if _is_suite(path, name)
    }
    return [os.path.dirname(path) for path in sorted(found, key=_distance)]


def _is_suite(path: str, name: str) -> bool:
    return os.path.basename(path) == f"{name}.py" or os.path.exists(f"{path}/__init__.py")


def _distance(path: str) -> tuple[int, str]:
    minor = path.split("/lib/python3.")[-1].split("/")[0]
    return (abs(int(minor) - sys.version_info[1]) if minor.isdigit() else 1000, path)


def load(name: str = NAME) -> Suite | None:
    """A suite, so that workers can import it, too; None where no installed Python has one that runs here."""
    for known in (f"test.{name}", name):
        with contextlib.suppress(ImportError):
            return Suite(importlib.import_module(known))
    for folder in installed(name):
        sys.path.append(folder)
        try:
            return Suite(importlib.import_module(name))
        except (ImportError, AttributeError, SyntaxError, unittest.SkipTest):  # of a Python too far from this one
            sys.path.remove(folder)
            for known in [known for known in sys.modules if known.split(".")[0] == name]:
                del sys.modules[known]
    return None
