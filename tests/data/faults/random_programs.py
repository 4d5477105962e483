"""Random programs over small tables: each has a plan of data sets and an oracle in plain Python.

A program is made from a seed alone. ``make`` returns its steps; each step knows what to do with a data set and
with a list of rows. Rows have an id, so that any order can be told apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import skate.data
from skate.data import ActorPoolStrategy
from skate.data.aggregate import Count, Max, Min, Sum
from skate.data.expressions import col

Row = dict[str, Any]
Rows = list[Row]

SCHEMA = pa.schema([("id", pa.int64()), ("k", pa.int64()), ("v", pa.float64()), ("s", pa.string())])


@dataclass(frozen=True)
class Step:
    """A step of a program.

    Attributes:
        text: for people.
        run: what it does with a data set.
        expect: what it does with rows.
        orders: the order of its output is known: None: if that of its input is; True: always; False: never.
        needs_order: what it gives depends on the order of its input.
    """

    text: str
    run: Callable[[Any], Any]
    expect: Callable[[Rows], Rows]
    orders: bool | None = None
    needs_order: bool = False


@dataclass
class Program:
    """A program.

    Attributes:
        seed: what it was made from.
        tables: the blocks of its input.
        steps: what happens to them.
    """

    seed: int
    tables: list[pa.Table]
    steps: list[Step] = field(default_factory=list)
    is_ordered: bool = True

    def __str__(self) -> str:
        cuts = [table.num_rows for table in self.tables]
        return f"seed {self.seed}: from_arrow({cuts})" + "".join(f"\n    .{step.text}" for step in self.steps)

    def dataset(self) -> Any:
        """Return the data set of all steps."""
        ds = skate.data.from_arrow(self.tables)
        for step in self.steps:
            ds = step.run(ds)
        return ds

    def expected(self) -> Rows:
        """Return the rows by the oracle."""
        return self._states()[-1]

    def is_empty_somewhere(self) -> bool:
        """Tell whether there are no rows before or after some step."""
        return not all(self._states())

    def _states(self) -> list[Rows]:
        states = [[row for table in self.tables for row in table.to_pylist()]]
        for step in self.steps:
            states.append(step.expect(states[-1]))
        return states


def plain(rows: Rows) -> list[tuple[Any, ...]]:
    """Return rows that can be compared: NaN equals itself, a null is a column that is not there."""
    return [
        tuple(
            sorted(
                (name, "nan" if value != value else value) for name, value in row.items() if value is not None
            )
        )
        for row in rows
    ]


def same(found: Rows, expected: Rows, is_ordered: bool) -> bool:
    """Compare rows, in order or without."""
    left, right = plain(found), plain(expected)
    return left == right if is_ordered else sorted(left, key=repr) == sorted(right, key=repr)


def make(seed: int, folder: Path, most_steps: int = 6, pools: bool = True) -> Program:
    """Return the program of a seed.

    Args:
        seed: any number.
        folder: for what it writes.
        most_steps: the most steps.
        pools: it may use classes on pools.
    """
    chance = random.Random(seed)
    program = Program(seed, _tables(chance))
    makers = [one for one in _MAKERS if pools or one is not _pool]
    while len(program.steps) < chance.randint(1, most_steps):
        step = chance.choice(makers)(chance, folder / f"{seed}-{len(program.steps)}")
        if step.needs_order and not program.is_ordered:
            continue
        program.steps.append(step)
        if step.orders is not None:
            program.is_ordered = step.orders
    return program


def _tables(chance: random.Random) -> list[pa.Table]:
    count = chance.choice([0, 1, 2, 7, 30, 100, 300])
    nulls = chance.choice([0.0, 0.1, 0.9])
    rows = [
        {
            "id": number,
            "k": None if chance.random() < nulls else chance.randint(0, 6),
            "v": None
            if chance.random() < nulls
            else math.nan
            if chance.random() < nulls / 3
            else float(chance.randint(-9, 9)),
            "s": None if chance.random() < nulls else chance.choice(["", "a", "b", "ü", "long " * 9]),
        }
        for number in range(count)
    ]
    blocks = chance.choice([1, 1, 2, 5, 17])
    edges = [0, *sorted(chance.randint(0, count) for _ in range(blocks - 1)), count]
    return [
        pa.Table.from_pylist(rows[start:stop], SCHEMA) for start, stop in zip(edges, edges[1:], strict=False)
    ]


# ---------------------------------------------------------------------------------------------------- steps


def _map(chance: random.Random, folder: Path) -> Step:
    number = chance.randint(1, 5)

    def more(row: Row) -> Row:
        return {**row, "k": None if row["k"] is None else (row["k"] + number) % 7}

    return Step(f"map(k + {number})", lambda ds: ds.map(more), lambda rows: [more(row) for row in rows])


def _map_other_columns(chance: random.Random, folder: Path) -> Step:
    def other(row: Row) -> Row:
        made = {"id": row["id"], "v": row["v"], "k": row["k"]}
        if row["id"] % 3:
            made["s"] = row.get("s")
        return made

    return Step(
        "map(s only sometimes)",
        lambda ds: ds.map(other).map(_all_columns),
        lambda rows: [other(row) for row in rows],
    )


def _all_columns(row: Row) -> Row:
    return {name: row.get(name) for name in SCHEMA.names}


def _flat_map(chance: random.Random, folder: Path) -> Step:
    most = chance.choice([1, 2, 3])

    def several(row: Row) -> Iterator[Row]:
        for number in range(row["id"] % (most + 1)):
            yield {**row, "id": row["id"] * 4 + number}

    return Step(
        f"flat_map(0 to {most})",
        lambda ds: ds.flat_map(several),
        lambda rows: [made for row in rows for made in several(row)],
    )


def _filter(chance: random.Random, folder: Path) -> Step:
    number = chance.randint(0, 6)

    def wanted(row: Row) -> bool:
        return row["k"] is not None and row["k"] >= number

    return Step(
        f"filter(k >= {number})",
        lambda ds: ds.filter(wanted),
        lambda rows: [row for row in rows if wanted(row)],
    )


def _filter_expression(chance: random.Random, folder: Path) -> Step:
    number = chance.randint(0, 6)
    return Step(
        f"filter(expr=k != {number})",
        lambda ds: ds.filter(expr=col("k") != number),
        lambda rows: [row for row in rows if row["k"] is not None and row["k"] != number],
    )


def _with_column(chance: random.Random, folder: Path) -> Step:
    number = chance.randint(1, 3)
    return Step(
        f"with_column(v + {number})",
        lambda ds: ds.with_column("v", col("v") + number),
        lambda rows: [{**row, "v": None if row["v"] is None else row["v"] + number} for row in rows],
    )


def _rename(chance: random.Random, folder: Path) -> Step:
    return Step(
        "rename_columns there and back",
        lambda ds: ds.rename_columns({"k": "q"}).rename_columns({"q": "k"}),
        lambda rows: rows,
    )


def _batches(chance: random.Random, folder: Path) -> Step:
    size = chance.choice([None, 1, 3, 16, 1000])

    def odd(batch: pa.Table) -> pa.Table:
        return batch.filter(pc.equal(pc.bit_wise_and(batch["id"], 1), 1))

    return Step(
        f"map_batches(odd ids, {size})",
        lambda ds: ds.map_batches(odd, batch_size=size, batch_format="pyarrow"),
        lambda rows: [row for row in rows if row["id"] & 1],
    )


def _generated_batches(chance: random.Random, folder: Path) -> Step:
    size = chance.choice([None, 2, 50])

    def halves(batch: pa.Table) -> Iterator[pa.Table]:
        middle = batch.num_rows // 2
        yield batch.slice(0, middle)
        yield batch.slice(middle)

    return Step(
        f"map_batches(halves, {size})",
        lambda ds: ds.map_batches(halves, batch_size=size, batch_format="pyarrow"),
        lambda rows: rows,
    )


def _numpy_batches(chance: random.Random, folder: Path) -> Step:
    size = chance.choice([None, 2, 50])

    def ids(batch: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": batch["id"] + 1,
            "k": batch["id"] % 5,
            "v": batch["id"] * 0.5,
            "s": ["x"] * len(batch["id"]),
        }

    return Step(
        f"map_batches(numpy, {size})",
        lambda ds: ds.map_batches(ids, batch_size=size),
        lambda rows: [
            {"id": row["id"] + 1, "k": row["id"] % 5, "v": row["id"] * 0.5, "s": "x"} for row in rows
        ],
    )


class AddOne:
    """Adds one to the ids of a batch."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch.set_column(batch.column_names.index("id"), "id", pc.add(batch["id"], 1))


def _pool(chance: random.Random, folder: Path) -> Step:
    size = chance.choice([None, 4, 64])
    replicas = chance.choice([1, 2])
    return Step(
        f"map_batches(AddOne, {size}, {replicas} replicas)",
        lambda ds: ds.map_batches(
            AddOne, batch_size=size, batch_format="pyarrow", compute=ActorPoolStrategy(size=replicas)
        ),
        lambda rows: [{**row, "id": row["id"] + 1} for row in rows],
    )


def _is_last(value: Any) -> int:
    return 2 if value is None else 1 if value != value else 0


def sorted_rows(rows: Rows, keys: list[tuple[str, bool]]) -> Rows:
    """Sort rows: stable, NaN after numbers, nulls last in both directions."""
    for name, descending in reversed(keys):
        rest = [row for row in rows if _is_last(row.get(name))]
        first = [row for row in rows if not _is_last(row.get(name))]
        first.sort(key=lambda row: row[name], reverse=descending)  # stable in both directions
        rows = first + sorted(rest, key=lambda row: _is_last(row.get(name)))
    return rows


def _sort(chance: random.Random, folder: Path) -> Step:
    names = chance.sample(["k", "v", "s"], chance.randint(1, 2))
    keys = [(name, chance.random() < 0.5) for name in names]
    return Step(
        f"sort({keys})",
        lambda ds: ds.sort([name for name, _ in keys], descending=[down for _, down in keys]),
        lambda rows: sorted_rows(rows, keys),
    )


def _sort_all(chance: random.Random, folder: Path) -> Step:
    keys = [(name, chance.random() < 0.5) for name in ("id", "k", "v", "s")]
    return Step(
        f"sort({keys})",
        lambda ds: ds.sort([name for name, _ in keys], descending=[down for _, down in keys]),
        lambda rows: sorted_rows(rows, keys),
        orders=True,
    )


def _grouped(rows: Rows, key: str) -> dict[Any, Rows]:
    groups: dict[Any, Rows] = {}
    for row in rows:
        value = row.get(key)
        groups.setdefault("nan" if value != value else value, []).append(row)
    return groups


def _aggregate(chance: random.Random, folder: Path) -> Step:
    def expect(rows: Rows) -> Rows:
        made = []
        for group in _grouped(rows, "k").values():
            values = [row["v"] for row in group if row["v"] is not None]
            texts = [row["s"] for row in group if row.get("s") is not None]
            made.append(
                {
                    "k": group[0]["k"],
                    "id": min(row["id"] for row in group) * 1000 + len(group),
                    "v": sum(values) if values else None,
                    "s": max(texts) if texts else None,
                }
            )
        return made

    def run(ds: Any) -> Any:
        made = ds.groupby("k").aggregate(
            Sum("v", alias_name="v"),
            Max("s", alias_name="s"),
            Min("id", alias_name="i"),
            Count(alias_name="n"),
        )
        return made.map(
            lambda row: {"k": row["k"], "id": row["i"] * 1000 + row["n"], "v": row["v"], "s": row["s"]}
        )

    return Step("groupby(k).aggregate", run, expect, orders=False)


def _map_groups(chance: random.Random, folder: Path) -> Step:
    key = chance.choice(["k", "s"])

    def last(group: pa.Table) -> pa.Table:
        return group.take([pc.index(group["id"], pc.max(group["id"])).as_py()])

    def expect(rows: Rows) -> Rows:
        return [max(group, key=lambda row: row["id"]) for group in _grouped(rows, key).values()]

    return Step(
        f"groupby({key}).map_groups(largest id)",
        # Rows of one id may differ after a flat_map and a join; only the id is compared then.
        lambda ds: ds.groupby(key).map_groups(last, batch_format="pyarrow").map(_only_id),
        lambda rows: [_only_id(row) for row in expect(rows)],
        orders=False,
    )


def _only_id(row: Row) -> Row:
    return {"id": row["id"], "k": row["id"] % 4, "v": 1.5, "s": None}


def _join(chance: random.Random, folder: Path) -> Step:
    how = chance.choice(["inner", "left_outer", "left_semi", "left_anti", "full_outer", "right_outer"])
    rights: Rows = [
        {"k": chance.choice([0, 1, 2, 3, 9, None]), "w": number} for number in range(chance.choice([0, 1, 6]))
    ]
    schema = pa.schema([("k", pa.int64()), ("w", pa.int64())])
    empty = {"id": -1, "v": None, "s": None}

    def expect(rows: Rows) -> Rows:
        made: Rows = []
        met: set[int] = set()
        for row in rows:
            matches = [
                (at, right)
                for at, right in enumerate(rights)
                if row["k"] is not None and right["k"] == row["k"]
            ]
            met.update(at for at, _ in matches)
            if how == "left_semi":
                made += [row] if matches else []
            elif how == "left_anti":
                made += [] if matches else [row]
            else:
                made += [{**row, "id": row["id"] * 10 + right["w"]} for _, right in matches]
                if not matches and how in ("left_outer", "full_outer"):
                    made.append({**row, "id": row["id"] * 10})
        if how in ("full_outer", "right_outer"):
            for at, right in enumerate(rights):
                if at not in met:
                    made.append({**empty, "k": right["k"], "id": -right["w"] - 1})
        return made

    def together(row: Row) -> Row:
        number = row.get("w") or 0
        found = row.get("id")
        return {**_all_columns(row), "id": -number - 1 if found is None else found * 10 + number}

    def run(ds: Any) -> Any:
        cut = len(rights) // 2
        parts = [pa.Table.from_pylist(rights[:cut], schema), pa.Table.from_pylist(rights[cut:], schema)]
        joined = ds.join(skate.data.from_arrow(parts), how, 2, on=("k",))
        return joined if how in ("left_semi", "left_anti") else joined.map(together)

    return Step(f"join({how}, {len(rights)} rows)", run, expect, orders=False)


def _union(chance: random.Random, folder: Path) -> Step:
    def more(row: Row) -> Row:
        return {**row, "id": row["id"] + 100_000}

    return Step(
        "union(itself with other ids)",
        lambda ds: ds.union(ds.map(more)),
        lambda rows: rows + [more(row) for row in rows],
    )


def _limit(chance: random.Random, folder: Path) -> Step:
    count = chance.choice([0, 1, 5, 40, 1000])
    return Step(f"limit({count})", lambda ds: ds.limit(count), lambda rows: rows[:count], needs_order=True)


def _zip(chance: random.Random, folder: Path) -> Step:
    def both(row: Row) -> Row:
        return {"id": row["id"] * 3 + row["z"], "k": row["k"], "v": row["v"], "s": row["s"]}

    return Step(
        "zip(itself)",
        lambda ds: ds.zip(ds.map(lambda row: {"z": row["id"] % 3})).map(both),
        lambda rows: [{**row, "id": row["id"] * 3 + row["id"] % 3} for row in rows],
        needs_order=True,
    )


def _repartition(chance: random.Random, folder: Path) -> Step:
    options: dict[str, Any] = chance.choice(
        [
            {"num_blocks": 1},
            {"num_blocks": 3},
            {"num_blocks": 20},
            {"target_num_rows_per_block": 4},
            {"target_num_rows_per_block": 4, "strict": True},
        ]
    )
    return Step(f"repartition({options})", lambda ds: ds.repartition(**options), lambda rows: rows)


def _shuffled_blocks(chance: random.Random, folder: Path) -> Step:
    options: dict[str, Any] = chance.choice(
        [{"num_blocks": 3, "shuffle": True}, {"num_blocks": 3, "keys": ["k"]}]
    )
    return Step(
        f"repartition({options})", lambda ds: ds.repartition(**options), lambda rows: rows, orders=False
    )


def _shuffle(chance: random.Random, folder: Path) -> Step:
    seed = chance.choice([None, 7])
    return Step(
        f"random_shuffle(seed={seed})",
        lambda ds: ds.random_shuffle(seed=seed),
        lambda rows: rows,
        orders=False,
    )


def _write_and_read(chance: random.Random, folder: Path) -> Step:
    form = chance.choice(["parquet", "parquet", "json"])

    def run(ds: Any) -> Any:
        getattr(ds, f"write_{form}")(str(folder), mode="overwrite")
        found = getattr(skate.data, f"read_{form}")(str(folder))
        return found.map(_all_columns) if form == "json" else found  # JSON has no columns without values

    return Step(f"write_{form}, read_{form}", run, _without_nan if form == "json" else list, orders=False)


def _without_nan(rows: Rows) -> Rows:
    return [{**row, "v": None if row["v"] != row["v"] else row["v"]} for row in rows]


def _materialize(chance: random.Random, folder: Path) -> Step:
    return Step("materialize()", lambda ds: ds.materialize(), lambda rows: rows)


_MAKERS: list[Callable[[random.Random, Path], Step]] = [
    _map,
    _map_other_columns,
    _flat_map,
    _filter,
    _filter_expression,
    _with_column,
    _rename,
    _batches,
    _generated_batches,
    _numpy_batches,
    _pool,
    _sort,
    _sort_all,
    _aggregate,
    _map_groups,
    _join,
    _union,
    _limit,
    _zip,
    _repartition,
    _shuffled_blocks,
    _shuffle,
    _write_and_read,
    _materialize,
]
