"""The joblib backend: Parallel, and scikit-learn on top of it."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy
import pytest

import skate
from skate.util.joblib import register_ray, register_skate

joblib: Any = pytest.importorskip("joblib", reason="joblib is not installed")

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture(autouse=True, params=["skate", "ray"])
def backend(request: pytest.FixtureRequest) -> Any:
    register_skate()
    register_ray()
    with joblib.parallel_config(backend=request.param):
        yield


def square(x: int) -> int:
    return x * x


def fail(x: int) -> None:
    raise ValueError(f"no {x}")


def pid(_: int) -> int:
    return os.getpid()


def sum_of(array: Any, start: int, scale: int = 1) -> tuple[float, bool, int]:
    return float(array[start:].sum()) * scale, bool(array.flags.writeable), os.getpid()


def nested(n: int) -> list[int]:
    return joblib.Parallel(n_jobs=2)(joblib.delayed(square)(i) for i in range(n))


def test_results_in_order() -> None:
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(square)(i) for i in range(500)) == [
        i * i for i in range(500)
    ]


def test_it_runs_in_workers() -> None:
    pids = joblib.Parallel(n_jobs=-1)(joblib.delayed(pid)(i) for i in range(20))
    assert os.getpid() not in pids


def test_one_job_runs_here() -> None:
    assert set(joblib.Parallel(n_jobs=1)(joblib.delayed(pid)(i) for i in range(3))) == {os.getpid()}


def test_how_many_jobs() -> None:
    assert joblib.effective_n_jobs(-1) == 2
    assert joblib.effective_n_jobs(-2) == 1
    assert joblib.effective_n_jobs(7) == 7
    with pytest.raises(ValueError, match="n_jobs"):
        joblib.Parallel(n_jobs=0)([joblib.delayed(square)(1)])


def test_errors_keep_their_type() -> None:
    with pytest.raises(ValueError, match="no 3") as raised:
        joblib.Parallel(n_jobs=2)(joblib.delayed(fail if i == 3 else square)(i) for i in range(100))
    assert type(raised.value) is ValueError


def test_a_backend_can_be_used_again() -> None:
    with joblib.Parallel(n_jobs=2) as parallel:
        for n in (3, 5):
            assert parallel(joblib.delayed(square)(i) for i in range(n)) == [i * i for i in range(n)]
        with pytest.raises(ValueError):
            parallel([joblib.delayed(fail)(1)])
        assert parallel([joblib.delayed(square)(2)]) == [4]


def test_generators() -> None:
    results = joblib.Parallel(n_jobs=2, return_as="generator")(joblib.delayed(square)(i) for i in range(9))
    assert list(results) == [i * i for i in range(9)]


def test_nested() -> None:
    got = joblib.Parallel(n_jobs=2)(joblib.delayed(nested)(n) for n in (2, 3))
    assert got == [[0, 1], [0, 1, 4]]


def test_large_arguments_are_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[Any] = []
    put = skate.api.put
    monkeypatch.setattr(skate.api, "put", lambda value: stored.append(value) or put(value))
    array = numpy.ones(200_000)
    got = joblib.Parallel(n_jobs=2, batch_size=1)(
        joblib.delayed(sum_of)(array, i, scale=2) for i in range(20)
    )
    assert [value for value, _, _ in got] == [2.0 * (200_000 - i) for i in range(20)]
    assert len(stored) == 1
    assert not any(writeable for _, writeable, _ in got)


def test_options_of_the_tasks() -> None:
    with joblib.parallel_config(backend="skate", ray_remote_args={"no_such_option": 1}):
        with pytest.raises(ValueError, match="no_such_option"):
            joblib.Parallel(n_jobs=2)([joblib.delayed(square)(1)] * 2)
    with joblib.parallel_config(backend="skate", ray_remote_args={"num_cpus": 0.5}):
        assert joblib.Parallel(n_jobs=4)([joblib.delayed(square)(2)] * 4) == [4] * 4


def test_grid_search() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    digits = load_digits()
    x, y = digits.data[:400], digits.target[:400]
    grid = {"C": [0.1, 1, 10], "gamma": [0.001, 0.01]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = GridSearchCV(SVC(), grid, cv=3, n_jobs=-1).fit(x, y)
        with joblib.parallel_config(backend="sequential"):
            expected = GridSearchCV(SVC(), grid, cv=3).fit(x, y)
    assert search.best_params_ == expected.best_params_
    assert list(search.cv_results_["mean_test_score"]) == list(expected.cv_results_["mean_test_score"])


def test_forest() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    iris = load_iris()
    forest = RandomForestClassifier(50, n_jobs=2, random_state=0).fit(iris.data, iris.target)
    assert forest.score(iris.data, iris.target) > 0.9
