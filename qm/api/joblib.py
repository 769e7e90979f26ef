"""joblib's backend "qm": `joblib.parallel_config("qm")` runs joblib's and scikit-learn's parallel loops on a Pool.

    import qm.joblib
    with joblib.parallel_config("qm", n_jobs=4, launcher="local", nb_proc=2):
        GridSearchCV(...).fit(X, y)

Options are those of qm.Pool; n_jobs counts workers (-1, the default: as many as there are processors). Loops inside a
task run in threads, and loops inside these one after the other, as with joblib's own backends. The pool serves one loop
after the other; it ends with the `parallel_config`, and its workers before that when there is nothing to do for 10 s.
Invariant: whatever ends a loop (its end, an exception in a task, a KeyboardInterrupt), nothing of it runs on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import joblib
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from qm.api.asyncresults import AsyncResult
from qm.api.pool import Pool

__all__ = ["QMBackend"]


class QMBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc,unused-ignore]
    """What joblib makes of `parallel_config("qm", **options)`."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, nesting_level: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level)
        self._options = options
        self._pool: Pool | None = None
        self._workers = 0

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers that means; as everywhere in joblib -1 is one for each processor, -2 one less."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs > 0:
            return n_jobs or 1
        if self._pool is None:
            self._open(None)
        return max(1, self._workers + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_others: Any) -> int:
        """Before a loop. Returns the number of workers."""
        self.parallel = parallel
        workers = self.effective_n_jobs(n_jobs)
        if self._pool is None or (n_jobs > 0 and workers != self._workers):
            self._open(workers)
        return workers

    def _open(self, workers: int | None) -> None:
        self._end()
        self._pool = Pool(workers, **self._options)
        self._dropped = weakref.finalize(self, Pool.close, self._pool)  # joblib does not say when it is the last loop
        self._workers = self._pool.processes

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._dropped.detach()
            pool.terminate()

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> AsyncResult:
        """Run a batch of calls. `callback` gets their results, or the exception."""
        if self._pool is None:  # the loop is being aborted
            result = AsyncResult(1, single=True)
            result.fail(CancelledError())
            return result
        return self._pool.apply_async(func, callback=callback, error_callback=callback)

    def retrieve_result_callback(self, out: Any) -> Any:
        """What the callback was given: results, or an exception, which is raised here."""
        if isinstance(out, BaseException):
            raise out
        return out

    def terminate(self) -> None:
        """The end of a loop; there may be another soon."""
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A task failed, or the user interrupts: end all of it. `ensure_ready`: another loop is to come."""
        self._end()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)


joblib.register_parallel_backend("qm", QMBackend)
