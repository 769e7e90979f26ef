"""joblib's backend "qm"."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

joblib = pytest.importorskip("joblib")
from joblib import Parallel, delayed  # noqa: E402

import qm.api.joblib  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def config() -> Iterator[None]:
    with joblib.parallel_config("qm", n_jobs=2, launcher="local"):
        yield


def root(x: float) -> float:
    if x < 0:
        raise ValueError(f"{x} has no root")
    return x**0.5


def nested(x: int) -> list[float]:
    return list(Parallel(n_jobs=2)(delayed(root)(i) for i in range(x)))


def test_a_loop_runs_on_a_pool() -> None:
    assert Parallel()(delayed(root)(x * x) for x in range(30)) == list(range(30))
    assert list(Parallel(return_as="generator")(delayed(root)(x * x) for x in range(5))) == list(range(5))
    assert Parallel(n_jobs=1)(delayed(root)(x * x) for x in range(3)) == [0, 1, 2]


def test_a_loop_in_a_task_runs_inside_its_worker() -> None:
    assert Parallel()(delayed(nested)(x) for x in range(3)) == [[], [0], [0, 1]]


def test_an_exception_of_a_task_is_raised_and_the_next_loop_runs() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="-1 has no root"):
            Parallel()(delayed(root)(x) for x in [4, 9, -1, *range(100)])
        assert Parallel()(delayed(root)(x) for x in [4]) == [2]
    with Parallel(pre_dispatch="all") as parallel:
        with pytest.raises(ValueError, match="-1 has no root"):
            parallel([delayed(root)(-1)])
        assert parallel(delayed(root)(x) for x in [4, 9]) == [2, 3]


def test_an_option_that_pool_does_not_know_is_named() -> None:
    with joblib.parallel_config("qm", launcher="local", memory="1 GB"), pytest.raises(ValueError, match="memory"):
        Parallel(n_jobs=2)(delayed(root)(x) for x in [4])


def test_the_number_of_jobs_counts_as_everywhere_in_joblib() -> None:
    backend: Any = qm.api.joblib.QMBackend(launcher="local")
    try:
        workers = backend.effective_n_jobs(-1)
        assert workers >= 1
        assert backend.effective_n_jobs(-2) == max(1, workers - 1)
        assert backend.effective_n_jobs(7) == 7
        with pytest.raises(ValueError, match="n_jobs == 0"):
            backend.effective_n_jobs(0)
    finally:
        backend.abort_everything(ensure_ready=False)


@pytest.mark.filterwarnings("default")
def test_a_grid_search_of_scikit_learn_runs_on_it() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    search = pytest.importorskip("sklearn.model_selection").GridSearchCV
    svm = pytest.importorskip("sklearn.svm").SVC
    x, y = datasets.load_iris(return_X_y=True)
    found = search(svm(), {"C": [0.1, 1.0]}, cv=2, n_jobs=2).fit(x, y)
    assert found.best_params_ in ({"C": 0.1}, {"C": 1.0})
    assert threading.active_count() < 50
