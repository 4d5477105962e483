"""Wrong options, wrong columns, wrong results, functions that cannot travel: errors that say what to do."""

from __future__ import annotations

import functools
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import skate.data
from skate.data import ActorPoolStrategy, DataContext
from skate.data.aggregate import Quantile, Std, Sum
from skate.data.expressions import col

Make = Callable[[Any], Any]


def same(row: Any) -> Any:
    return row


class Model:
    def __call__(self, batch: Any) -> Any:
        return batch


def numbers() -> Any:
    return skate.data.from_items([{"id": number, "name": str(number)} for number in range(6)])


# ---------------------------------------------------------------------- options: known at the call

#: What is called with a data set of the columns id and name; the words of the error.
OPTIONS: list[tuple[Make, str]] = [
    (lambda ds: ds.map_batches(same, batch_size="10"), r"map_batches\(batch_size=\) .* got '10'"),
    (lambda ds: ds.map_batches(same, batch_size=0), r"map_batches\(batch_size=\) must be at least 1"),
    (lambda ds: ds.map_batches(same, batch_format="foo"), r"batch_format='foo'\): the formats are 'default'"),
    (lambda ds: ds.map_batches(same, concurrency=-1), r"map_batches\(concurrency=\) .* at least 1, got -1"),
    (lambda ds: ds.map_batches(same, num_cpus="x"), r"map_batches\(num_cpus=\) must be a number, got 'x'"),
    (lambda ds: ds.map_batches(same, num_gpus=-1), r"map_batches\(num_gpus=\) must be at least 0, got -1"),
    (lambda ds: ds.map_batches(same, memory="1GB"), r"map_batches\(memory=\) must be a number, got '1GB'"),
    (lambda ds: ds.map_batches(same, zero_copy_batch="no"), r"zero_copy_batch=\) must be True or False"),
    (lambda ds: ds.map_batches(same, udf_modifying_row_count=2), "udf_modifying_row_count=.* got 2"),
    (lambda ds: ds.map(same, on_error="foo"), r'map\(on_error=\'foo\'\): choose one of "raise", "skip"'),
    (lambda ds: ds.map(same, on_error="skip", max_errors="x"), r"map\(max_errors=...\) takes a number"),
    (lambda ds: ds.map(same, retry_on="x"), r"map\(retry_on=...\) takes exception types"),
    (lambda ds: ds.map(same, max_retries=-1), r"map\(max_retries=-1\): give a number from 0"),
    (lambda ds: ds.map(same, timeout_per_row=0), r"map\(timeout_per_row=0\): give a number above 0"),
    (lambda ds: ds.map(same, fn_args=3), r"map\(fn_args=...\) takes a list or tuple, not an int: 3"),
    (lambda ds: ds.map(same, fn_kwargs={1: 2}), r"map\(fn_kwargs=...\) .* names of parameters, not by 1"),
    (lambda ds: ds.map(same, fn_constructor_args=[1]), r"map\(fn_constructor_args=...\) goes with a class"),
    (lambda ds: ds.map(same, compute=3), r"map\(compute=\) must be a TaskPoolStrategy or"),
    (lambda ds: ds.map(same, resources={"a": "b"}), r"map\(resources=\): .*resources\['a'\].* a number"),
    (lambda ds: ds.map(same, label_selector=3), r"map\(label_selector=\): .* must be a dict"),
    (lambda ds: ds.map(same, max_calls="x"), r"map\(max_calls=\): .* must be a whole number"),
    (lambda ds: ds.map(same, runtime_env={"foo": 1}), r"map\(runtime_env=\): .* has no field 'foo'"),
    (lambda ds: ds.map(same, batchsize=1), r"map\(\) has no option 'batchsize' \(did you mean 'batch_size'\?\)"),
    (lambda ds: ds.map(same, ray_remote_args_fn=3), r"map\(ray_remote_args_fn=\) must be a function, got 3"),
    (lambda ds: ds.map(same, ray_remote_args_fn=int), r"ray_remote_args_fn=\) must return a dict of options, it returned 0"),
    (lambda ds: ds.map("abs"), r"map\(fn\) takes a function or a class, not a str: 'abs'"),
    (lambda ds: ds.map(None), r"map\(fn\) takes a function or a class, not None"),
    (lambda ds: ds.flat_map(Path), r"flat_map\(fn\): instances of the class Path cannot be called"),
    (lambda ds: ds.map(lambda: {"x": 1}), r"map\(fn\): <lambda>\(\) cannot be called with a row"),
    (lambda ds: ds.map_batches(lambda a, b: a), r"<lambda>\(a, b\) cannot be called with a batch: missing .*'b'"),
    (lambda ds: ds.filter("id > 3"), r"filter\(expr='id > 3'\)"),
    (lambda ds: ds.filter(expr=3), r"filter\(expr=\) takes an expression"),
    (lambda ds: ds.add_column("x", "y"), r"add_column\(fn\) takes a function, got a str: 'y'"),
    (lambda ds: ds.add_column("x", same, batch_format="foo"), r"add_column\(batch_format='foo'\)"),
    (lambda ds: ds.select_columns(3), r"select_columns\(cols\) takes a column or a list .*, got an int: 3"),
    (lambda ds: ds.drop_columns([3]), r"drop_columns\(cols\) takes names of columns, got an int: 3"),
    (lambda ds: ds.rename_columns({"id": 3}), r"rename_columns\(names\) takes names of columns, got an int: 3"),
    (lambda ds: ds.rename_columns(["a"]), "rename_columns got 1 names for 2 columns"),
    (lambda ds: ds.with_column("x", 3), r"with_column\('x', ...\) takes an expression .*, got 3"),
    (lambda ds: ds.sort(3), r"sort\(key\) takes a column or a list of columns, got an int: 3"),
    (lambda ds: ds.sort("id", descending="no"), r"sort\(descending=\) must be True or False, got 'no'"),
    (lambda ds: ds.sort("id", boundaries=3), r"sort\(boundaries\) takes a list of values, got an int"),
    (lambda ds: ds.sort("id", boundaries=["a"]), r"sort\(boundaries=\): 'a' cannot be compared .* 'id', .* int64"),
    (lambda ds: ds.limit("a"), r"limit\(limit=\) must be a whole number, got 'a'"),
    (lambda ds: ds.repartition("x"), r"repartition\(num_blocks=\) must be a whole number, got 'x'"),
    (lambda ds: ds.repartition(0, keys="id"), r"repartition\(num_blocks=\) must be at least 1, got 0"),
    (lambda ds: ds.repartition(2, shuffle="x"), r"repartition\(shuffle=\) must be True or False"),
    (lambda ds: ds.random_shuffle(seed="x"), r"\(seed=\) must be a whole number"),
    (lambda ds: ds.random_sample(2), "random_sample takes a fraction from 0 to 1, not 2"),
    (lambda ds: ds.train_test_split(0.5, shuffle="x"), r"train_test_split\(shuffle=\) must be True or False"),
    (lambda ds: ds.split(2, equal="x"), r"split\(equal=\) must be True or False, got 'x'"),
    (lambda ds: ds.split(2, locality_hints=3), r"split\(locality_hints\) takes a list"),
    (lambda ds: ds.split_proportionately(0.5), r"split_proportionately\(proportions\) takes a list of fractions"),
    (lambda ds: ds.split_proportionately(["a"]), r"split_proportionately\(proportions=\) must be a number"),
    (lambda ds: ds.streaming_split(0), r"streaming_split\(n\) must be a number of at least 1, got 0"),
    (lambda ds: ds.join(ds, "foo"), r"join\(join_type=\) must be one of 'inner', .* got 'foo'"),
    (lambda ds: ds.join(3, "inner"), r"join\(\) takes data sets, got an int: 3"),
    (lambda ds: ds.join(ds, "inner", "x"), r"join\(num_partitions=\) must be a whole number, got 'x'"),
    (lambda ds: ds.join(ds, "inner", on=3), r"join\(on\) takes a column or a list of columns"),
    (lambda ds: ds.join(ds, "inner", left_suffix=3), r"join\(left_suffix=\) must be text or None, got an int"),
    (lambda ds: ds.groupby(3), r"groupby\(key\) takes a column or a list of columns, got an int: 3"),
    (lambda ds: ds.groupby("id", num_partitions="x"), r"groupby\(num_partitions=\) must be a whole number"),
    (lambda ds: ds.groupby("id").sum(3), r"aggregate\(on\) takes a column or a list of columns"),
    (lambda ds: ds.groupby("id").map_groups("x"), r"map_groups\(fn\) takes a function or a class"),
    (lambda ds: ds.groupby("id").with_column("x", 3), r"with_column\('x', ...\) takes an expression"),
    (lambda ds: ds.drop_duplicates(3), r"drop_duplicates\(on\) takes a column or a list of columns"),
    (lambda ds: ds.near_duplicates("name", "x"), r"near_duplicates\(threshold=\) must be a number, got 'x'"),
    (lambda ds: ds.iter_batches(drop_last="x"), r"iter_batches\(drop_last=\) must be True or False"),
    (lambda ds: ds.iter_batches(batch_format="x"), r"iter_batches\(batch_format='x'\): the formats are"),
    (lambda ds: ds.take_batch(0), r"take_batch\(batch_size=\) must be at least 1, got 0"),
    (lambda ds: ds.show("x"), r"show\(limit=\) must be a whole number, got 'x'"),
    (lambda ds: ds.to_pandas("x"), r"to_pandas\(limit=\) must be a whole number, got 'x'"),
    (lambda ds: ds.retry(3), r"retry\(\) takes data sets, got an int: 3"),
    (lambda ds: ds.write_parquet(""), "path must name a folder; it is empty"),
    (lambda ds: ds.write_parquet("out", mode="foo"), "mode='foo' is not known; modes of a write are create"),
    (lambda ds: ds.write_parquet("out", partition_cols=3), "partition_cols must be a list of column names"),
    (lambda ds: ds.write_parquet("out", compression="foo"), "arguments of write_parquet .* compression: foo"),
    (lambda ds: Sum(3), r"Sum\(on=\) takes the name of a column, got 3"),  # type: ignore[arg-type]
    (lambda ds: Std("id", ddof="x"), r"Std\(ddof=\) must be a whole number"),  # type: ignore[arg-type]
    (lambda ds: Quantile("id", q="x"), r"Quantile\(q=\) must be a number"),  # type: ignore[arg-type]
    (lambda ds: skate.data.from_items("abc"), r"from_items\(items\) takes a list of rows, got a str: 'abc'"),
    (lambda ds: skate.data.from_items(3), r"from_items\(items\) takes a list of rows, got an int: 3"),  # type: ignore[arg-type]
    (lambda ds: skate.data.read_parquet("/nowhere/x"), "No such file or directory .*ignore_missing_paths"),
    (lambda ds: skate.data.read_csv("/nowhere", delimiter=";"), r"no option 'delimiter'.*ParseOptions\(delim"),
    (lambda ds: skate.data.read_images("/nowhere", mode="foo"), "mode must be one of '1', .*got 'foo'"),
    (lambda ds: skate.data.range("x"), r"range\(n\) must be a number of rows, got 'x'"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), OPTIONS, ids=[words[:50] for _, words in OPTIONS])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrong_options_are_errors_of_the_call(
    make: Make, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ds = numbers()
    before = ds._last
    with pytest.raises((TypeError, ValueError, OSError), match=words):
        make(ds)
    assert ds._last is before, "nothing ran"
    assert not list(tmp_path.iterdir())


def test_flags_of_numpy_and_numbers_are_taken() -> None:
    import numpy as np

    assert [row["id"] for row in numbers().sort("id", descending=np.bool_(True)).take(2)] == [5, 4]
    assert numbers().sort("id", descending=1).take(1) == [{"id": 5, "name": "5"}]
    assert numbers().limit(np.int64(2)).count() == 2


COLUMNS: dict[str, Make] = {
    "sort": lambda ds: ds.sort("nam"),
    "groupby": lambda ds: ds.groupby("nam").count(),
    "aggregate": lambda ds: ds.groupby("id").sum("nam"),
    "select": lambda ds: ds.select_columns(["id", "nam"]),
    "drop": lambda ds: ds.drop_columns("nam"),
    "rename": lambda ds: ds.rename_columns({"nam": "x"}),
    "with_column": lambda ds: ds.with_column("x", col("nam") + 1),
    "filter": lambda ds: ds.filter(expr=col("nam") == "1"),
    "join": lambda ds: ds.join(skate.data.range(3), "inner", on="nam", right_on="id"),
    "keys": lambda ds: ds.repartition(2, keys=["nam"]),
    "drop_duplicates": lambda ds: ds.drop_duplicates("nam"),
    "unique": lambda ds: ds.unique("nam"),
    "stratify": lambda ds: ds.train_test_split(0.5, stratify="nam"),
}


@pytest.mark.parametrize("verb", COLUMNS)
def test_an_unknown_column_is_named_with_those_that_exist(verb: str) -> None:
    words = r"there is no column 'nam' \(did you mean 'name'\?\); the columns are \['id', 'name'\]"
    with pytest.raises((KeyError, ValueError), match=words):
        COLUMNS[verb](numbers())
    # Columns that a function makes are known when it runs.
    with pytest.raises((KeyError, ValueError), match=words):
        made = COLUMNS[verb](numbers().map(same))
        made.take_all()


def test_only_the_first_of_very_many_columns_are_listed() -> None:
    wide = skate.data.from_items([{f"c{number}": number for number in range(500)}])
    with pytest.raises(ValueError, match=r"no column 'x'; the first of 500 columns are \['c0'") as raised:
        wide.sort("x")
    assert len(str(raised.value)) < 500


def test_names_that_do_not_exist_have_a_suggestion() -> None:
    with pytest.raises(AttributeError, match=r"'map_batch' \(did you mean 'map_batches'\?\)"):
        numbers().map_batch(same)
    with pytest.raises(AttributeError, match=r"'read_parket' \(did you mean 'read_parquet'\?\)"):
        skate.data.read_parket("x")  # type: ignore[attr-defined]


def test_only_letters_are_retried() -> None:
    with pytest.raises(
        ValueError, match=r"retry\(\) takes what dead_letters\(\) returned.* \['id', 'name'\]"
    ):
        numbers().retry(numbers())


def test_plans_that_are_too_deep_say_what_to_do() -> None:
    rows = skate.data.range(3)
    deep = functools.reduce(lambda ds, _: ds.map(same), range(1000), rows)
    with pytest.raises(
        RecursionError, match=r"has 1001 operations, .*Put several into one function, .*union\(\)"
    ):
        deep.take_all()

    def recurse(row: Any) -> Any:
        return recurse(row)

    with pytest.raises(RecursionError, match=r"Map\(recurse\) failed at row 0"):
        rows.map(recurse).take_all()


def test_loops_over_unions_and_columns_are_no_deep_or_slow_plans() -> None:
    many = functools.reduce(
        lambda ds, _: ds.union(skate.data.from_items([{"id": 1}])), range(1000), numbers()
    )
    assert len(many._plan.parts) == 1001
    wide = functools.reduce(lambda ds, number: ds.with_column(f"c{number}", col("id")), range(200), numbers())
    assert len(wide.columns()) == 202
    assert wide.take(1)[0]["c199"] == 0


# ---------------------------------------------------------------------- results of functions


@pytest.fixture(params=["near", "far"])
def port(request: pytest.FixtureRequest, settings: DataContext) -> None:
    """Functions run in this process, and in processes of a session."""
    if request.param == "far":
        request.getfixturevalue("session")
        settings.local_limit_bytes = 0


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no text")


def some(row: Any) -> Iterator[Any]:
    yield row


#: Verb, function, words of the error.
RESULTS: list[tuple[str, Any, str]] = [
    ("map", lambda row: None, "must return a dict, the new row, but it returned None: does it end without"),
    ("map", lambda row: 3, "must return a dict, the new row, but it returned an int: 3"),
    ("map", lambda row: [row], "must return a dict, the new row, but it returned a list"),
    ("map", some, "must return a dict, the new row, but it returned a generator"),
    ("map", lambda row: Unprintable(), "must return a dict, .* an Unprintable: <Unprintable>"),
    ("map", lambda row: {1: 2}, "the key 1 of a row is of type int: names of columns are str"),
    ("map", lambda row: {"x": threading.Lock()}, "column 'x': row 0 holds a lock"),
    ("flat_map", lambda row: row, "must return a list of dicts, but it returned a dict"),
    ("flat_map", lambda row: None, "must return a list of dicts, but it returned None"),
    ("flat_map", lambda row: [1], "must return a list of dicts, but it returned a list with an int: 1"),
    ("map_batches", lambda batch: None, "a batch is a dict of columns.* Does the function end without"),
    ("map_batches", lambda batch: 3, "returned a value of type int, but a batch is a dict of columns"),
    ("map_batches", lambda batch: [1], "of type list, .*use flat_map for a list of rows"),
    ("map_batches", lambda batch: {"a": [1, 2], "b": [1]}, "columns differ in length: 'a' has 2, 'b' has 1"),
    ("map_batches", lambda batch: {"a": 3}, "column 'a' is a single value of type int"),
    ("map_batches", lambda batch: {"a": "abc"}, "column 'a' is a single value of type str"),
    ("map_batches", lambda batch: pd.Series([1]), "returned a value of type Series"),
    ("map_batches", lambda batch: pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column .* 'a'"),
    ("map_batches", lambda batch: batch["id"].fill(0) or batch, "read-only.*zero_copy_batch=False"),
    ("add_column", lambda batch: 3, r"add_column\('x'\) returned a batch whose column 'x' is a single value"),
    ("add_column", lambda batch: [1], r"function of add_column\('x'\) returned 1 values for a batch of 3 rows"),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "function", "words"), RESULTS, ids=[one[2][:40] for one in RESULTS])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("port")
def test_a_wrong_result_names_the_stage_the_row_and_what_is_expected(
    verb: str, function: Any, words: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        rows = skate.data.range(3, override_num_blocks=1)
        getattr(rows, verb)(*(["x"] if verb == "add_column" else []), function).take_all()
    text = str(raised.value).replace("\n", " ")
    stage = {"map": "Map", "flat_map": "FlatMap"}.get(verb, "MapBatches")
    for wanted in (
        words,
        rf"{stage}\((<lambda>|some|AddColumn)\) failed at (a batch, rows 0 to 2|row 0)",
        "on_error=",
    ):
        assert re.search(wanted, text), text


@pytest.mark.usefixtures("port")
def test_groups_do_not_recommend_an_option_that_they_do_not_have() -> None:
    with pytest.raises(
        ValueError, match=r"(?s)value of type int, but a batch.*MapGroups\(<lambda>\) failed"
    ) as raised:
        numbers().groupby("id").map_groups(lambda group: 3).take_all()
    assert "on_error" not in str(raised.value)


@pytest.mark.usefixtures("port")
def test_what_is_no_mistake() -> None:
    rows = skate.data.range(3, override_num_blocks=1)
    assert rows.map_batches(lambda batch: pd.DataFrame()).take_all() == []
    assert rows.map_batches(lambda batch: {}).take_all() == []
    assert rows.map_batches(lambda batch: pd.DataFrame(index=range(2))).count() == 2

    def changing(row: dict[str, Any]) -> dict[str, Any]:
        row["twice"] = row.pop("id") * 2
        return row

    assert rows.map(changing).take_all() == [{"twice": 0}, {"twice": 2}, {"twice": 4}]
    assert rows.take_all() == [{"id": 0}, {"id": 1}, {"id": 2}], "the data set is as it was"

    def zero(batch: dict[str, Any]) -> dict[str, Any]:
        batch["id"].fill(0)
        return batch

    made = rows.materialize()
    assert made.map_batches(zero, zero_copy_batch=False).sum("id") == 0
    assert made.sum("id") == 3


# ---------------------------------------------------------------------- functions that cannot travel

_lock = threading.Lock()


def uses_a_global(row: Any) -> Any:
    with _lock:
        return row


def closing(what: Any) -> Any:
    def function(row: Any) -> Any:
        assert what
        return row

    return function


class Client:
    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:")

    def __call__(self, row: Any) -> Any:
        return row

    def method(self, row: Any) -> Any:
        return row


def by_value(function: Any) -> Any:
    """Return a function as one of a script: pickled with what it uses."""
    from types import FunctionType

    module = {"__name__": "__main__", "__builtins__": __builtins__, "_lock": _lock}
    return FunctionType(function.__code__, module, function.__name__)


UNPICKLABLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "closure": (
        lambda ds: ds.map(closing({"deep": [threading.Lock()]})),
        r"^Map\(function\) runs in processes .*the variable 'what' captured by function\['deep'\]\[0\] is a lock",
    ),
    "global": (
        lambda ds: ds.map(by_value(uses_a_global)),
        "the global '_lock' used by uses_a_global is a lock",
    ),
    "attribute": (lambda ds: ds.map(Client()), "Client.database is a Connection"),
    "method": (lambda ds: ds.map(Client().method), "method.__self__.database is a Connection"),
    "partial": (
        lambda ds: ds.map(functools.partial(lambda lock, row: row, threading.Lock())),
        r"<lambda>.args\[0\] is a lock",
    ),
    "default": (
        lambda ds: ds.map(lambda row, *, lock=threading.Lock(): row),  # noqa: B008
        "the default of 'lock' of <lambda> is a lock",
    ),
    "fn_args": (lambda ds: ds.map(lambda row, lock: row, fn_args=[threading.Lock()]), r"fn_args\[0\] is a lock"),
    "fn_kwargs": (
        lambda ds: ds.map(lambda row, lock: row, fn_kwargs={"lock": threading.Lock()}),
        r"fn_kwargs\['lock'\] is a lock",
    ),
    "file": (lambda ds: ds.map(closing(open("/dev/null", "a"))), "'what' captured by function is a TextIOWrapper"),
    "pool": (
        lambda ds: ds.map_batches(
            type("Local", (Model,), {"__module__": "__main__", "lock": threading.Lock()}),
            compute=ActorPoolStrategy(size=1),
        ),
        r"MapBatches\(Local\) runs in processes of the session, but Local.lock is a lock",
    ),
    "groups": (
        lambda ds: ds.groupby("id").map_groups(closing(threading.Lock())),
        r"MapGroups\(.*'what' captured by function is a lock",
    ),
    "expression": (
        lambda ds: ds.map_batches(closing(threading.Lock())).filter(expr=col("id") > 0),
        "'what' captured by function is a lock",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNPICKLABLE)
def test_a_function_that_cannot_travel_names_the_culprit(far: DataContext, what: str) -> None:
    make, words = UNPICKLABLE[what]
    with pytest.raises(TypeError, match=words) as raised:
        make(numbers()).take_all()
    assert "Make it inside the function, or in the __init__ of a class" in str(raised.value)
    assert skate.data.range(3).map(same).count() == 3, "the session goes on"


def test_it_may_stay_in_this_process() -> None:
    assert numbers().map(closing(threading.Lock())).count() == 6
    assert len(numbers().map(Client()).take_all()) == 6
