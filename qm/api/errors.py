"""What goes wrong between a Python program and its jobs, as exceptions.

    NoDaemon        nobody serves the queue at the first submit     (a TryAgain)
    DaemonAway      nobody has served it for 30 s                   (a BrokenExecutor)
    FolderGone      the job's folder, or the queue, was removed     (a BrokenExecutor)
    SetupFailed     the initializer failed, so no worker runs       (a BrokenExecutor)
    CrewEnded       the job ended, so nothing can be added to it
    JobFailed       the job ended without a result for this call
    RemoteError     stands for an exception that this program cannot load
    RemoteTraceback the text of a traceback from the other side, as `__cause__`

Invariant: all can be pickled, since a task may use a Pool itself and fail by one of them.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from qm.vocabulary.errors import QMError, TryAgain


class NoDaemon(TryAgain):
    """No QueueManager serves the queue to which something was to be submitted. Nothing was queued."""


class DaemonAway(QMError, BrokenExecutor):
    """QueueManager has been away for so long that its jobs are not waited for any more; they may still run."""


class FolderGone(QMError, BrokenExecutor):
    """A job's folder is in none of the four places any more, or the queue's folder was removed."""


class SetupFailed(QMError, BrokenExecutor):
    """An initializer raised an exception (`__cause__`) in a worker, so that none of them will run anything."""


class CrewEnded(QMError):
    """The job has ended: another call or chunk needs another job (see `Crew.successor`)."""


class JobFailed(QMError, RuntimeError):
    """A job, or the worker that ran this call, ended without a result.

    `what` names the call or the job; `state` is the job's (`failed`, `killed`, `timeout`, `out_of_memory`, `lost`,
    …), `exit_status` its last, None when there was none; `folder` is where it lies; `log` the end of its output.
    """

    def __init__(
        self,
        what: str,
        state: str = "failed",
        reason: str = "",
        exit_status: int | None = None,
        folder: str = "",
        log: str = "",
    ) -> None:
        super().__init__(what, state, reason, exit_status, folder, log)
        self.what = what
        self.state = state
        self.reason = reason
        self.exit_status = exit_status  # type: ignore[assignment]  # the job's, not that of a command that is told
        self.folder = folder
        self.log = log

    def __str__(self) -> str:
        status = f", exit status {self.exit_status}" if self.exit_status is not None else ""
        if status.removeprefix(", ") in self.reason:
            status = ""
        why = f": {self.reason}" if self.reason and self.reason != self.state else ""
        where = f"; see {self.folder}" if self.folder else ""
        log = f"\nits log ends with: {self.log}" if self.log else ""
        return f"{self.what}: {self.state}{why}{status}{where}{log}"


class RemoteError(Exception):
    """Stands for an exception, or a result, that cannot be loaded here. `kind` is its class, `message` its text."""

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


class RemoteTraceback(Exception):
    """The text of a traceback from the other side."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'
