"""Dask's graphs on skate: both forms of graphs, collections, options, callbacks."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

dask = pytest.importorskip("dask", reason="dask is in the extra `test`")
import dask.array as da  # noqa: E402
import numpy as np  # noqa: E402

import skate  # noqa: E402
from skate.api import RayContext as Session  # noqa: E402
from skate.util.dask import (  # noqa: E402
    RayDaskCallback,
    _graph,
    dataframe_optimize,
    disable_dask_on_ray,
    enable_dask_on_ray,
    local_ray_callbacks,
    ray_dask_get,
    ray_dask_get_sync,
    ray_dask_persist,
    unpack_ray_callbacks,
)

from .waiting import attempt  # noqa: E402


def _total(numbers: list[int]) -> int:
    return sum(numbers)


def _fail(x: int) -> int:
    raise ZeroDivisionError(f"with {x}")


GRAPH: dict[Any, Any] = {
    "one": 1,
    "two": (operator.add, "one", 1),
    ("part", 0): (_total, ["one", "two", (operator.mul, "two", 5)]),
    "same": "two",
    "text": "not a key",
    "unused": (_fail, 1),
}


@pytest.mark.parametrize("get", [ray_dask_get, ray_dask_get_sync])
def test_graphs_of_tuples(session: Session, get: Callable[..., Any]) -> None:
    assert get(GRAPH, ("part", 0)) == 13
    assert get(GRAPH, ["two", ["same", ("part", 0)], "text"]) == (2, (2, 13), "not a key")


def test_the_older_form_without_the_newer_one(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dask before 2024.12 hands over; its newer versions convert it, which is then not done."""
    monkeypatch.setattr(_graph, "spec", None)
    nested = {**GRAPH, "map": (dict, [["a", "one"], ["b", (operator.neg, "two")]])}
    assert ray_dask_get(nested, [("part", 0), "map", "same"]) == (13, {"a": 1, "b": -2}, 2)


def test_graphs_of_task_specs(session: Session) -> None:
    spec = pytest.importorskip("dask._task_spec")
    graph = {
        "a": spec.DataNode("a", [1, 2]),
        "b": spec.Task("b", _total, spec.TaskRef("a")),
        "c": spec.Alias("c", "b"),
        "d": spec.Task("d", operator.add, spec.TaskRef("c"), 10),
    }
    assert ray_dask_get(graph, ["d", "a"]) == (13, [1, 2])


def test_a_circle_and_a_missing_key(session: Session) -> None:
    with pytest.raises(ValueError, match="circle"):
        ray_dask_get({"a": (operator.neg, "b"), "b": (operator.neg, "a")}, "a")
    with pytest.raises(KeyError):
        ray_dask_get(GRAPH, "nothing")


def test_a_long_chain(session: Session) -> None:
    graph: dict[Any, Any] = {("k", 0): 0}
    for n in range(1, 1500):
        graph["k", n] = (operator.add, ("k", n - 1), 1)
    assert ray_dask_get(graph, ("k", 1499)) == 1499


def test_each_node_runs_once_in_a_worker(session: Session, tmp_path: Path) -> None:
    graph = {"n": (attempt, tmp_path / "runs"), "m": (operator.add, "n", "n"), "pid": (os.getpid,)}
    assert ray_dask_get(graph, "m") == 2
    assert (tmp_path / "runs").stat().st_size == 1
    assert ray_dask_get(graph, "pid") != os.getpid()


def test_exceptions_have_their_type(session: Session) -> None:
    with pytest.raises(ZeroDivisionError, match="with 1"):
        ray_dask_get({"x": (_fail, 1), "y": (operator.neg, "x")}, "y")


def test_arrays(session: Session) -> None:
    numbers = np.arange(10_000.0).reshape(100, 100)
    array = da.from_array(numbers, chunks=(25, 50))
    result = (array @ array.T).sum(axis=0).compute(scheduler=ray_dask_get)
    assert np.allclose(result, (numbers @ numbers.T).sum(axis=0))


def test_dataframes(session: Session) -> None:
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"a": range(40), "b": [n % 4 for n in range(40)]})
    with enable_dask_on_ray():
        lazy = dd.from_pandas(frame, npartitions=4)
        assert lazy.groupby("b").a.sum().compute().tolist() == frame.groupby("b").a.sum().tolist()
        shuffled = lazy.shuffle("b").compute()
    assert sorted(shuffled.a) == list(range(40))


def test_delayed_and_enabling(session: Session) -> None:
    pid = dask.delayed(os.getpid)()
    with enable_dask_on_ray():
        assert pid.compute() != os.getpid()
    assert dask.config.get("scheduler", None) is None
    enable_dask_on_ray()
    try:
        assert dask.config.get("scheduler") is ray_dask_get
        with disable_dask_on_ray():
            assert dask.config.get("scheduler") is None
    finally:
        disable_dask_on_ray()
    assert dask.config.get("scheduler") is None


def _counted_block(path: Path, n: int) -> Any:
    attempt(path)
    return np.full((2,), n)


def test_persisted_collections_stay_where_they_are(session: Session, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    lazy = da.concatenate(
        [da.from_delayed(dask.delayed(_counted_block)(runs, n), (2,), dtype=int) for n in range(3)]
    )
    (kept,) = ray_dask_persist(lazy + 1)
    with enable_dask_on_ray():
        assert kept.compute().tolist() == [1, 1, 2, 2, 3, 3]
        assert int(kept.sum().compute()) == 12
    assert runs.stat().st_size == 3
    refs = ray_dask_get(GRAPH, ["two", "one"], ray_persist=True)
    assert (skate.get(refs[0]), refs[1]) == (2, 1)


def test_options_of_tasks(session: Session) -> None:
    graph = {"cpus": (_assigned_cpus,)}
    assert ray_dask_get(graph, "cpus", ray_remote_args={"num_cpus": 2}) == 2
    with pytest.raises(ValueError):
        ray_dask_get(graph, "cpus", ray_remote_args={"num_cpu": 2})
    highlevel = pytest.importorskip("dask.highlevelgraph")
    with dask.annotate(ray_remote_args={"num_cpus": 2}):
        layered = highlevel.HighLevelGraph.from_collections("cpus", graph)
    layered.layers["cpus"].annotations = {"ray_remote_args": {"num_cpus": 2}}
    assert ray_dask_get(layered, "cpus") == 2


def _assigned_cpus() -> float:
    return float(skate.get_runtime_context().get_assigned_resources()["CPU"])


def test_callbacks(session: Session, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Watch(RayDaskCallback):
        def _ray_presubmit(self, task: Any, key: Any, deps: Any) -> Any:
            seen.append(("pre", key))
            return 40 if key == "two" else None

        def _ray_postsubmit(self, task: Any, key: Any, deps: Any, ref: Any) -> None:
            seen.append(("post", key))

        def _ray_postsubmit_all(self, refs: list[Any], dsk: Any) -> None:
            seen.append(("all", len(refs)))

        def _ray_finish(self, result: Any) -> None:
            seen.append(("finish", result))

    graph = {"one": 1, "two": (operator.add, "one", 1), "three": (operator.add, "two", 2)}
    with Watch():
        assert ray_dask_get(graph, "three") == 42
    assert seen == [("pre", "two"), ("pre", "three"), ("post", "three"), ("all", 2), ("finish", 42)]
    assert ray_dask_get(graph, "three") == 4
    assert len(seen) == 5
    around = RayDaskCallback(
        ray_pretask=lambda key, given: (key, given),
        ray_posttask=lambda key, result, state: (tmp_path / key).write_text(f"{state} {result}"),
    )
    assert ray_dask_get(graph, "three", ray_callbacks=[around]) == 4
    assert (tmp_path / "three").read_text() == "('three', (2,)) 4"
    around.register()
    try:
        with local_ray_callbacks() as active:
            assert [len(found) for found in unpack_ray_callbacks(active).values()] == [0, 0, 1, 1, 0, 0]
            assert not RayDaskCallback.ray_active
    finally:
        around.unregister()
    assert not RayDaskCallback.ray_active


def test_a_progress_bar(
    session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # a thread of its own
    from skate.util.dask import ProgressBarCallback

    with ProgressBarCallback():
        assert ray_dask_get(GRAPH, ("part", 0)) == 13
    assert "2/2" in capsys.readouterr().err


def test_what_is_not_needed_is_left_out_before_the_run(session: Session) -> None:
    graph = {"one": 1, "two": (operator.add, "one", 1), "other": (_fail, "one")}
    optimized = dataframe_optimize(graph, ["two"])
    assert set(optimized) == {"one", "two"}
    assert ray_dask_get(optimized, "two") == 2
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.from_pandas(pd.DataFrame({"a": range(40), "b": [x % 4 for x in range(40)]}), npartitions=4)
    with dask.config.set(scheduler=ray_dask_get, dataframe_optimize=dataframe_optimize):
        assert sorted(lazy.shuffle("b").compute().a) == list(range(40))


def test_layers_that_are_not_needed(session: Session) -> None:
    graph = (da.arange(8, chunks=4) + 1).dask
    key = next(key for key in graph.to_dict() if key[0].startswith("add"))
    optimized = dataframe_optimize(graph, [[key]])
    assert 0 < len(optimized.to_dict()) < len(graph.to_dict())
    assert ray_dask_get(optimized, key).tolist() == [1, 2, 3, 4]
