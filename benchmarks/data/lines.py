"""The table of what is measured. How each line is measured stands at its function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.data.engines import ADAPTERS
from benchmarks.data.pipelines import PIPELINES

Unit = Literal["s", "ms", "us a row", "ms a block"]
FACTORS: dict[str, float] = {"s": 1, "ms": 1e3, "us a row": 1e6, "ms a block": 1e3}

API = ("skate", "ray")
FRAMES = (*API, "daft")
TABLES = ("skate", "on_ray", "ray", "duckdb", "polars")


@dataclass(frozen=True)
class TimesBest:
    """skate takes at most `factor` times what the best of the engines took in the same run."""

    factor: float
    engines: tuple[str, ...]
    of: Literal["cpu", "wall"] = "wall"


@dataclass(frozen=True)
class TimesLine:
    """skate takes at most `factor` times the CPU seconds that it took for another line."""

    factor: float
    line: str


@dataclass(frozen=True)
class AtMost:
    """skate takes at most so much, in the unit of the line."""

    value: float
    of: Literal["cpu", "wall"] = "cpu"


Target = TimesBest | TimesLine | AtMost


@dataclass(frozen=True)
class Line:
    """One thing that is measured: CPU time of the whole process tree, and wall time beside it."""

    name: str
    section: str
    """Under which heading it is shown."""
    session: str
    """Lines of one session share a fresh process."""
    title: str
    engines: tuple[str, ...]
    unit: Unit = "s"
    target: Target | None = None
    driver_only: bool = False
    """The CPU time is that of the driver, not of the tree."""


TITLES = {
    "photos": "photos: decode, hash, classify",
    "photos_groups": "photos, then counted by hash",
    "pdf": "PDF: text, one chunk each, MiniLM",
    "pdf_static": "PDF: text, up to 40 chunks, WordLlama",
    "audio": "audio: decode, resample, speech",
    "text": "pages: text, language, MinHash",
    "text_groups": "pages, then counted by language",
}


def _pipelines() -> list[Line]:
    lines = []
    for name in PIPELINES:
        best = TimesBest(1.05, ("pool", "daft"))
        lines.append(Line(name, "pipelines", name, TITLES[name], tuple(ADAPTERS), target=best))
        warm = f"{TITLES[name]}; second run"
        lines.append(Line(f"{name}_warm", "pipelines", name, warm, (*FRAMES, "on_ray")))
    return lines


LINES: tuple[Line, ...] = (
    *_pipelines(),
    Line("options_none", "options", "options", "pages, warm, in order of arrival", ("skate",)),
    Line(
        "options_ordered",
        "options",
        "options",
        "... in order",
        ("skate",),
        target=TimesLine(1.03, "options_none"),
    ),
    Line(
        "options_letters",
        "options",
        "options",
        "... with dead letters",
        ("skate",),
        target=TimesLine(1.02, "options_none"),
    ),
    Line(
        "options_resume",
        "options",
        "options",
        "... so that it can be resumed",
        ("skate",),
        target=TimesLine(1.05, "options_none"),
    ),
    Line("whole", "options", "killed", "pages, a fresh program that can be resumed", ("skate",)),
    Line(
        "killed",
        "options",
        "killed",
        "... killed at half of its time, and resumed",
        ("skate",),
        target=TimesLine(1.08, "whole"),
    ),
    Line(
        "ten_budgets",
        "memory",
        "ten_budgets",
        "ten times the memory budget through three functions",
        API,
    ),
    Line(
        "first_row",
        "overheads",
        "first_row",
        "program with range(10).map(f).take(1)",
        FRAMES,
        target=AtMost(0.5, "wall"),
    ),
    Line(
        "warm_first_row",
        "overheads",
        "overheads",
        "first row of 100 blocks, warm",
        API,
        "ms",
        AtMost(30, "wall"),
    ),
    Line(
        "block_driver",
        "overheads",
        "overheads",
        "driver's CPU for a block of 1 kB",
        API,
        "ms a block",
        AtMost(0.25),
        driver_only=True,
    ),
    Line(
        "block_session",
        "overheads",
        "overheads",
        "... where small data goes to the workers too",
        ("skate",),
        "ms a block",
        AtMost(0.25),
        driver_only=True,
    ),
    Line("map_1", "overheads", "rows", "map, 1 column", (*FRAMES, "plain"), "us a row", AtMost(1.5)),
    Line("map_5", "overheads", "rows", "map, 5 columns", (*API, "plain"), "us a row", AtMost(3.5)),
    Line("flat_map_1", "overheads", "rows", "flat_map, 1 column", API, "us a row"),
    Line("filter_1", "overheads", "rows", "filter, 1 column", FRAMES, "us a row"),
    Line(
        "batches_numpy",
        "overheads",
        "rows",
        "map_batches(256), NumPy",
        FRAMES,
        "us a row",
        AtMost(0.15),
    ),
    Line("batches_pandas", "overheads", "rows", "map_batches(256), pandas", API, "us a row"),
    Line("batches_arrow", "overheads", "rows", "map_batches(256), Arrow", API, "us a row"),
    Line("pool_cold", "overheads", "pools", "one replica, first time", API, "ms", AtMost(50, "wall")),
    Line("pool_warm", "overheads", "pools", "one replica, again", API, "ms"),
    Line(
        "small_million",
        "small data",
        "small",
        "groupby of a million rows",
        (*API, "polars", "duckdb"),
        "ms",
        AtMost(150, "wall"),
    ),
    Line("small_map", "small data", "small", "range(10).map", API, "ms", AtMost(30, "wall")),
    Line("small_sort", "small data", "small", "range(10).sort", API, "ms", AtMost(50, "wall")),
    Line("small_groupby", "small data", "small", "range(10).groupby.count", API, "ms", AtMost(50, "wall")),
    Line("small_join", "small data", "small", "range(10).join", API, "ms", AtMost(50, "wall")),
    Line("small_shuffle", "small data", "small", "range(10).random_shuffle", API, "ms", AtMost(50, "wall")),
    Line(
        "files_first_row",
        "many small files",
        "files",
        "first row of files of 4 kB (100,000 at full size)",
        (*FRAMES, "plain"),
        "s",
        AtMost(1.0, "wall"),
    ),
    Line("files_all", "many small files", "files", "all of them", (*FRAMES, "plain")),
    Line(
        "exchange_sort",
        "exchanges",
        "exchange_sort",
        "sort by a key",
        TABLES,
        target=TimesBest(1.3, ("duckdb",), "cpu"),
    ),
    Line(
        "exchange_few",
        "exchanges",
        "exchange_few",
        "sum and count of 1,000 groups",
        TABLES,
        target=TimesBest(1.5, ("duckdb",), "cpu"),
    ),
    Line(
        "exchange_many",
        "exchanges",
        "exchange_many",
        "sum and count of a group for two rows",
        TABLES,
        target=TimesBest(1.5, ("duckdb",), "cpu"),
    ),
    Line(
        "exchange_join",
        "exchanges",
        "exchange_join",
        "join with a fifth as many rows",
        TABLES,
        target=TimesBest(1.5, ("duckdb", "polars"), "cpu"),
    ),
    Line(
        "exchange_join_small",
        "exchanges",
        "exchange_join_small",
        "join with a five-hundredth",
        TABLES,
        target=TimesBest(1.5, ("duckdb", "polars"), "cpu"),
    ),
    Line(
        "exchange_shuffle",
        "exchanges",
        "exchange_shuffle",
        "random shuffle",
        ("skate", "on_ray", "ray", "duckdb"),
        target=TimesBest(1.3, ("duckdb",), "cpu"),
    ),
)

BY_NAME = {line.name: line for line in LINES}
SECTIONS = tuple(dict.fromkeys(line.section for line in LINES))
SESSIONS = tuple(dict.fromkeys(line.session for line in LINES))
