"""One contestant of `pools` or `submits` in a process of its own, so that no import or thread of another is in its way.

`python pooled.py KEY WHAT COUNT CONFIG RESULT` writes its figures (seconds) as JSON to RESULT.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ClassVar

from noop import noop
from pool_peers import (
    WORKERS,
    Contestant,
    Dask,
    DaskBundles,
    Forked,
    HyperQueue,
    ProcessPool,
    Spawned,
    Submitit,
    expect,
)


class Local(Forked):
    key = "qm-local"
    name = 'QM, launcher="local"'
    module = "qm"
    launcher: ClassVar[str] = "local"
    remark = "QM: Pool for map, Executor for single submits (a job each: a process, a record, a log)"

    def options(self) -> dict[str, Any]:
        return {"launcher": self.launcher} | ({"config": self.config} if self.launcher == "spool" else {})

    def imports(self) -> None:
        import qm

        assert qm.Pool
        assert qm.Executor

    def start(self) -> None:
        import qm

        self.pool = qm.Pool(WORKERS, **self.options())

    @functools.cached_property
    def executor(self) -> Executor:
        import qm

        return qm.Executor(**self.options())

    def submit_all(self, tasks: int) -> None:
        futures = [self.executor.submit(noop, number) for number in range(tasks)]
        expect([one.result() for one in futures], tasks)

    def close(self) -> None:
        super().close()
        if "executor" in self.__dict__:
            self.executor.shutdown()


class Daemon(Local):
    key = "qm"
    name = "QM, through its daemon"
    launcher = "spool"
    remark = ""


ALL: tuple[type[Contestant], ...] = (
    Forked,
    Spawned,
    ProcessPool,
    Dask,
    DaskBundles,
    HyperQueue,
    Submitit,
    Local,
    Daemon,
)


def installed(kind: type[Contestant]) -> bool:
    """Whether this Python can import it."""
    return importlib.util.find_spec(kind.module.partition(".")[0]) is not None


def timed(call: Callable[[], None]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> int:
    """One turn of one contestant."""
    key, what, count, config, result = sys.argv[1:]
    contestant = next(kind for kind in ALL if kind.key == key)(config)
    contestant.imports()
    tasks = int(count)
    figures: dict[str, Any] = {}
    first = timed(contestant.start)
    if what == "map":
        first += timed(lambda: contestant.map(tasks))
        figures["warm"] = [timed(lambda: contestant.map(tasks)) for _ in range(contestant.maps)]
        figures["whole"] = first + timed(contestant.close)
    else:
        contestant.submit_all(WORKERS)  # whatever it starts at the first ones
        figures["singles"] = timed(lambda: contestant.submit_all(tasks))
        contestant.close()
    with open(result, "w", encoding="ascii") as file:
        json.dump(figures, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
