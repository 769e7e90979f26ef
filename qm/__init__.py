"""QM: a batch queue whose database is the file system. A job is a folder.

Invariant: `import qm` loads nothing else. A name of the Python API is loaded when it is first asked for, since the
command line starts by importing this package, too.
"""

from __future__ import annotations

TYPE_CHECKING = False  # known to type checkers; to import typing takes each worker 10 ms
if TYPE_CHECKING:
    from qm import joblib as joblib
    from qm.api.attaching import attach as attach
    from qm.api.classes import ClassNotFound as ClassNotFound
    from qm.api.errors import DaemonAway as DaemonAway
    from qm.api.errors import FolderGone as FolderGone
    from qm.api.errors import JobFailed as JobFailed
    from qm.api.errors import NoDaemon as NoDaemon
    from qm.api.errors import RemoteError as RemoteError
    from qm.api.errors import RemoteTraceback as RemoteTraceback
    from qm.api.errors import SetupFailed as SetupFailed
    from qm.api.executor import Executor as Executor
    from qm.api.handles import Handle as Handle
    from qm.api.job import Job as Job
    from qm.api.job import enqueue as enqueue
    from qm.api.job import execute as execute
    from qm.api.jobs import job as job
    from qm.api.jobs import jobs as jobs
    from qm.api.jobs import submit as submit
    from qm.api.pool import Pool as Pool
    from qm.vocabulary.errors import ConfigError as ConfigError
    from qm.vocabulary.errors import JobFileError as JobFileError
    from qm.vocabulary.errors import NoSuchJob as NoSuchJob
    from qm.vocabulary.errors import QMError as QMError
    from qm.vocabulary.errors import RequestError as RequestError
    from qm.vocabulary.errors import TryAgain as TryAgain

__version__ = "1.0.0.dev0"

_MODULES = {
    "qm.api.attaching": ("attach",),
    "qm.api.classes": ("ClassNotFound",),
    "qm.api.errors": (
        "DaemonAway",
        "FolderGone",
        "JobFailed",
        "NoDaemon",
        "RemoteError",
        "RemoteTraceback",
        "SetupFailed",
    ),
    "qm.api.executor": ("Executor",),
    "qm.api.handles": ("Handle",),
    "qm.api.job": ("Job", "enqueue", "execute"),
    "qm.api.jobs": ("job", "jobs", "submit"),
    "qm.api.pool": ("Pool",),
    "qm.vocabulary.errors": ("ConfigError", "JobFileError", "NoSuchJob", "QMError", "RequestError", "TryAgain"),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*sorted([*_WHERE, "joblib"]), "__version__"]  # noqa: PLE0604 (texts all)

if not TYPE_CHECKING:  # so that a type checker still finds slips

    def __getattr__(name: str) -> object:
        """Load a name of the API when it is first asked for (PEP 562)."""
        from importlib import import_module

        if name == "joblib":
            return import_module("qm.joblib")
        if name not in _WHERE:
            raise AttributeError(f"module 'qm' has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_WHERE[name]), name)
        return found


def __dir__() -> list[str]:
    return [*__all__, "__doc__"]
