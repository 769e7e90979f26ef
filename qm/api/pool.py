"""multiprocessing's Pool, whose workers are a job of QM, or jobs of Grid Engine (queue_map_reduce's Pool).

    with qm.Pool(4) as pool:
        squares = pool.map(square, range(10_000))

Differences to multiprocessing: workers begin with the first call and end when there was nothing to do for 10 s (the
next call makes new ones); functions may be lambdas and closures; `map` raises the failure of the item with the smallest
index, whose traceback is the exception's cause; a worker that dies makes the items it had fail, and nothing hangs.

Invariant: callbacks run one after the other in a thread of their own, so one that waits for another result (`get`)
holds up later callbacks but no result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, NoReturn

from qm.api.asyncresults import AsyncResult
from qm.api.calls import Calls, Style
from qm.api.crewpool import Asked, on_qm
from qm.api.runner import Kept, Runner
from qm.api.stream import ResultIterator
from qm.api.workdir import on_grid
from qm.api.workfiles import CALL, MAP, STAR
from qm.judgement.chunks import count


class Pool:
    """Workers for calls. Every argument may be left out.

    processes         how many workers, None: as many as there are processors. A str is `queue_name`
    initializer       called with `initargs` by each worker before its first task
    maxtasksperchild  a worker begins anew, as a fresh process, after so many tasks (and the rest of a chunk)
    launcher          "spool": the daemon's queue of the QMserv.cfg found, or of `config`; "local": no daemon needed.
                      None: "spool", but "local" in a task that uses a Pool itself
    name              of the pool; its jobs are `name_1`, `name_2`, …
    progress          True: show how far each map is, on standard error
    errors            "raise", or "none": None in place of what failed, and a warning to `logger`
    num_chunks        into how many chunks the items go; None: four for each worker (Grid Engine: one for each item)
    keep_work_dir     job folders are not removed at the end. They stay, too, when something failed
    work_dir          where kept folders are copied to
    options           keys of a job file: nb_proc, mem, wall_time, attempts, priority, group, info, …

    With one of these each chunk is a job of Grid Engine, and no daemon is needed. They are those of queue_map_reduce,
    as are python_path, work_dir, keep_work_dir, logger and num_chunks; see qm.api.workdir.

    queue_name, qsub_path, qstat_path, qdel_path, polling_interval_qstat (5 seconds), max_num_resubmissions (10),
    error_state_indicator ("E")
    """

    def __init__(
        self,
        processes: int | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        launcher: str | None = None,
        config: str | None = None,
        name: str | None = None,
        progress: bool = False,
        errors: Literal["raise", "none"] = "raise",
        logger: logging.Logger | None = None,
        num_chunks: int | None = None,
        work_dir: str | None = None,
        keep_work_dir: bool = False,
        python_path: str | None = None,
        queue_name: str | None = None,
        polling_interval_qstat: float | None = None,
        max_num_resubmissions: int | None = None,
        error_state_indicator: str | None = None,
        qsub_path: str | None = None,
        qstat_path: str | None = None,
        qdel_path: str | None = None,
        **options: Any,
    ) -> None:
        if isinstance(processes, str):
            processes, queue_name = None, processes
        processes = processes if processes is None else count("processes", processes)
        num_chunks = num_chunks if num_chunks is None else count("num_chunks", num_chunks)
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild < 1):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if errors not in ("raise", "none"):
            raise ValueError(f'errors is {errors!r}; it must be "raise" or "none"')
        logger = logging.getLogger("qm.pool") if logger is None else logger
        grid = {
            "queue_name": queue_name,
            "polling_interval_qstat": polling_interval_qstat,
            "max_num_resubmissions": max_num_resubmissions,
            "error_state_indicator": error_state_indicator,
            "qsub_path": qsub_path,
            "qstat_path": qstat_path,
            "qdel_path": qdel_path,
        }
        setup = (initializer, tuple(initargs)) if initializer is not None else None
        kept = Kept(keep_work_dir, work_dir, logger)
        runner: Runner
        if any(value is not None for value in grid.values()):
            _check_grid({**options, "launcher": launcher, "config": config, "name": name})
            runner = on_grid(kept, setup, python_path, **grid)
        else:
            asked = Asked(name, processes, options, setup, python_path, maxtasksperchild)
            runner = on_qm(kept, asked, launcher, config)
        self.processes = runner.workers
        """How many workers it asks for."""
        self._calls = Calls(runner, Style(errors == "none", progress, num_chunks, logger))
        self._state = "RUN"

    # --- calls ---------------------------------------------------------------------------------------------

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """`[func(item) for item in iterable]`, by the workers. The first failing item's own exception is raised.

        A KeyboardInterrupt cancels all of this map, and nothing else of the pool.
        """
        results: list[Any] = _wait_for(self.map_async(func, iterable, chunksize))
        return results

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with `func(*item)`."""
        results: list[Any] = _wait_for(self.starmap_async(func, iterable, chunksize))
        return results

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> Any:
        """`func(*args, **kwds)`, by a worker."""
        return _wait_for(self.apply_async(func, args, kwds))

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> AsyncResult:
        """As `map`, without waiting."""
        self._check_running()
        return self._calls.start(func, MAP, iterable, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> AsyncResult:
        """As `starmap`, without waiting."""
        self._check_running()
        return self._calls.start(func, STAR, iterable, chunksize, callback, error_callback)

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[Any], object] | None = None,
    ) -> AsyncResult:
        """As `apply`, without waiting."""
        self._check_running()
        item = (tuple(args), dict(kwds or {}))
        return self._calls.start(func, CALL, [item], 1, callback, error_callback, single=True)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> ResultIterator:
        """The results one by one, in order. The iterable is read as results are taken, and may be endless.

        When the results are dropped after some were taken, nothing more is read of an iterable without a length.
        (In Grid Engine a call begins when all of its items are known, so there it must end.)
        """
        self._check_running()
        return self._calls.stream(func, iterable, chunksize, ordered=True)

    def imap_unordered(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> ResultIterator:
        """The same, each result as soon as it is there."""
        self._check_running()
        return self._calls.stream(func, iterable, chunksize, ordered=False)

    # --- the pool's life -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls. Workers end when those there are are done."""
        if self._state == "RUN":
            self._state = "CLOSE"
            self._calls.close()

    def terminate(self) -> None:
        """End all at once. Results that are not there are CancelledErrors."""
        self._state = "TERMINATE"
        self._calls.terminate()

    def join(self) -> None:
        """Wait for the end of all work. ValueError before `close` or `terminate`."""
        if self._state == "RUN":
            raise ValueError("Pool is still running")
        self._calls.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As with multiprocessing: terminate."""
        self.terminate()

    def __repr__(self) -> str:
        return f"<qm.Pool state={self._state} pool_size={self.processes}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self) -> None:
        if self._state != "RUN":
            raise ValueError("Pool not running")


def _wait_for(result: AsyncResult) -> Any:
    try:
        return result.get()
    except KeyboardInterrupt:
        result.cancel()
        raise


def _check_grid(given: Mapping[str, Any]) -> None:
    wrong = [key for key, value in given.items() if value is not None]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: not for a pool whose jobs are submitted to Grid Engine by qsub")
