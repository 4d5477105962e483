"""Rules change what a plan costs, never its rows: each is proved by running both plans."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skate.data
from skate.data import Dataset
from skate.data._operators.column_operators import FilterExpr
from skate.data._operators.exchanges.sort import TopK
from skate.data._plan import execute as executing
from skate.data._plan.logical import Apply, Exchanged, Limit, Node, Read
from skate.data._plan.rules import RULES, optimise
from skate.data.expressions import col


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("tables")
    chooser = random.Random(1)
    for number in range(3):
        table = pa.table(
            {
                "a": pa.array([chooser.choice([None, 1, 2, 3, 4]) for _ in range(20)], pa.int64()),
                "b": [chooser.random() for _ in range(20)],
                "c": [chooser.choice(["x", "y", "z"]) for _ in range(20)],
                "d": list(range(number * 20, number * 20 + 20)),
            }
        )
        pq.write_table(table, found / f"{number}.parquet", row_group_size=7)
    return found


def random_dataset(chooser: random.Random, folder: Path) -> Dataset:
    """Return a data set of up to six verbs over the table."""
    data = skate.data.read_parquet(str(folder))
    columns = ["a", "b", "c", "d"]
    for _ in range(chooser.randint(0, 6)):
        verb = chooser.choice(["filter", "select", "with", "drop", "map", "sort", "limit", "group"])
        name = chooser.choice(columns)
        if verb == "filter" and "d" in columns:
            data = data.filter(expr=(col("d") > chooser.randint(0, 40)) & col("d").is_not_null())
        elif verb == "select":
            columns = chooser.sample(columns, chooser.randint(1, len(columns)))
            data = data.select_columns(columns)
        elif verb == "with" and "d" in columns:
            data = data.with_column("e", col("d") * 2)
            columns = list(dict.fromkeys([*columns, "e"]))
        elif verb == "drop" and len(columns) > 1:
            columns = [one for one in columns if one != name]
            data = data.drop_columns([name])
        elif verb == "map":
            data = data.map(lambda row: row)
        elif verb == "sort" and "d" in columns:
            data = data.sort("d", descending=chooser.random() < 0.5)
        elif verb == "limit":
            data = data.limit(chooser.randint(0, 50))
        elif verb == "group" and name in "acd":
            data = data.groupby(name).count()
            columns = [name, "count()"]
    return data


def rows(data: Dataset) -> list[dict[str, Any]]:
    return data.take_all(10_000)


def test_a_plan_has_the_same_rows_with_and_without_rules(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = 0
    for seed in range(150):
        data = random_dataset(random.Random(seed), folder)
        changed += optimise(data._plan) is not data._plan
        with_rules = rows(data)
        with monkeypatch.context() as patch:
            patch.setattr(executing, "optimise", lambda plan: plan)
            without = rows(random_dataset(random.Random(seed), folder))
        assert with_rules == without, f"seed {seed}"
    assert changed > 50


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_leaves_other_plans_alone(rule: Any) -> None:
    plan = skate.data.range(10).map(lambda row: row)._plan
    assert rule(plan) is plan


def below(plan: Node) -> Read:
    while not isinstance(plan, Read):
        plan = plan.inputs[0]
    return plan


def test_only_used_columns_are_read(folder: Path) -> None:
    data = skate.data.read_parquet(str(folder))
    selected = data.filter(expr=col("d") > 3).select_columns(["b"])
    assert below(optimise(selected._plan)).source.hints.columns == ("b",)
    computed = data.with_column("e", col("a") + 1).select_columns(["e"])
    assert below(optimise(computed._plan)).source.hints.columns == ("a",)
    grouped = data.groupby("c").sum("d")
    assert below(optimise(grouped._plan)).source.hints.columns == ("c", "d")
    assert below(optimise(data.map(lambda row: row).select_columns(["b"])._plan)).source.hints.columns is None


def test_filters_are_read_predicates(folder: Path) -> None:
    data = skate.data.read_parquet(str(folder)).filter(expr=col("d") > 30).filter(expr=col("c") == "x")
    plan = optimise(data._plan)
    assert isinstance(plan, Read)
    assert set(plan.source.hints.predicate.columns()) == {"c", "d"}


def test_a_filter_on_a_missing_column_says_so_itself(folder: Path) -> None:
    data = skate.data.read_parquet(str(folder))
    # The verb finds it where the columns are known; those of other files may be others.
    plan = Apply(data._plan, FilterExpr(col("nothing") > 30))
    assert isinstance(optimise(plan), Apply)
    with pytest.raises(ValueError, match="no column 'nothing'"):
        data._over(plan).take_all()


def test_a_limit_on_a_sort_keeps_the_top_rows(folder: Path) -> None:
    data = skate.data.read_parquet(str(folder)).sort("b").limit(5)
    plan = optimise(data._plan)
    assert isinstance(plan, Exchanged)
    assert isinstance(plan.exchange, TopK)


def test_limits_on_limits_are_one() -> None:
    plan = optimise(skate.data.range(100).limit(50).limit(7).limit(20)._plan)
    assert isinstance(plan, Limit)
    assert plan.rows == 7
    assert isinstance(plan.input, Read)


def test_files_that_are_decoded_are_small_only_if_they_are_tiny(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"<p>word</p>" * 200_000)
    settings = skate.data.DataContext.get_current()
    is_small = executing._is_small
    pages = skate.data.read_html(str(tmp_path))._plan
    text = skate.data.read_binary_files(str(tmp_path))._plan
    assert not is_small(pages, settings.local_limit_bytes)
    assert is_small(text, settings.local_limit_bytes)
