"""What is said to whoever waits for a crew: that it runs, what came of its chunks, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from qm.api.outcomes import Outcomes

if TYPE_CHECKING:
    from qm.api.crew import Crew


class End(NamedTuple):
    """How a crew's job ended. `state` is the job's last (`done`, `failed`, `killed`, …; `lost` when nobody knows).

    `unclaimed`: the chunks that nobody has begun, of an open crew whose workers ended well for want of work: see
    `Crew.successor`. All others have had an `out`. `error` is FolderGone, DaemonAway or SetupFailed, if it is that.
    """

    state: str
    reason: str
    exit_status: int | None
    folder: str
    unclaimed: tuple[int, ...] = ()
    error: Exception | None = None


class Listener(Protocol):
    """Who is told. All of it is called in the watcher's thread: return soon, wait for no other result."""

    def began(self, crew: Crew) -> None:
        """Its job runs; may come again when the job is tried again."""

    def out(self, crew: Crew, chunk: int, outcomes: Outcomes) -> None:
        """What came of a chunk: `(True, value)` or `(False, exception)` for each item. Each chunk once.

        Chunks of a cancelled call have none; those without a result have a JobFailed, or `End.error`, for each item
        (concurrent.futures.CancelledError, if `kill` was called).
        """

    def ended(self, crew: Crew, end: End) -> None:
        """Once, after all `out`."""
