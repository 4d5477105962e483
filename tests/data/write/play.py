"""Plays a write without an executor: the parts of a source go through a sink as the executor would send them.

As a program (``python play.py``) it reads a line for each run from stdin and forks a child that does it, so that a
run that is to be killed costs no start of Python. A line is JSON: ``{"path": ..., "parts": ..., ...}``, see ``play``.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

import skate.data
from skate.data._io.commit import PartLedger
from skate.data._io.sink import Sink
from skate.data._io.writers.csv_files import CSVSink
from skate.data._io.writers.json_lines import JSONSink
from skate.data._io.writers.parquet import ParquetSink
from skate.data._task.operators import TaskContext
from skate.data.context import DataContext

SINKS = {"parquet": ParquetSink, "csv": CSVSink, "json": JSONSink}


def rows_of(part: str, rows: int) -> pa.Table:
    """Return the rows of a part of the source."""
    return pa.table(
        {"part": [part] * rows, "row": list(range(rows)), "text": [f"{part}/{n}" * 3 for n in range(rows)]}
    )


def tasks_of(parts: Sequence[str], rows: int, mixes: bool) -> list[tuple[list[str], list[pa.Table]]]:
    """Return what each write task gets: two tasks a part; or tasks that mix the halves of two neighbours."""
    halves = []
    for part in parts:
        table = rows_of(part, rows)
        halves += [(part, table.slice(0, rows // 2)), (part, table.slice(rows // 2))]
    if not mixes:
        return [([part], [table]) for part, table in halves]
    # The second half of the first part goes with the first half of the second, and so on, in pairs of parts.
    found = []
    for at in range(0, len(halves), 4):
        four = halves[at : at + 4]
        found.append(([four[0][0]], [four[0][1]]))
        found.append(([part for part, _ in four[1:3]], [table for _, table in four[1:3]]))
        found += [([part], [table]) for part, table in four[3:]]
    return found


def play(sink: Sink, parts: Sequence[str], rows: int, threads: int = 2, mixes: bool = False) -> list[str]:
    """Write parts through a sink. Return the names of those that were read."""
    schema = rows_of("", 0).schema
    sink.start(schema)
    if not sink.is_needed():
        return []
    done = set(sink.finished())
    wanted = [part for part in parts if part not in done]
    sent = pickle.dumps(sink)

    def run(numbered: tuple[int, tuple[list[str], list[pa.Table]]]) -> tuple[list[str], Any]:
        number, (names, tables) = numbered
        return names, pickle.loads(sent).write(iter(tables), TaskContext(f"1.{number}"))

    tasks = tasks_of(wanted, rows, mixes)
    left = {part: sum(part in names for names, _ in tasks) for part in wanted}
    ledger = PartLedger()
    results = []
    try:
        with ThreadPoolExecutor(threads) as pool:
            for names, result in pool.map(run, enumerate(tasks)):
                results.append(result)
                ledger.wrote(names, result)
                for name in dict.fromkeys(names):
                    left[name] -= 1
                    if not left[name]:
                        for group in ledger.ended(name):
                            sink.record(group.parts, group.results)  # type: ignore[arg-type]
        sink.commit(results, schema)
    except BaseException as error:
        sink.abort(error)
        raise
    return wanted


def parse(row: dict[str, Any]) -> dict[str, Any]:
    """Fail for one row of ten."""
    if row["id"] % 10 == 3:
        raise ValueError(f"row {row['id']} is bad")
    return row


def drift(row: dict[str, Any]) -> dict[str, Any]:
    """Give each part of ten rows another schema."""
    part = row["id"] // 10
    return {**row, "x": [None, part, part / 2][part % 3], f"of_{part}": part}


def write_drift(order: dict[str, Any]) -> None:
    """Write six parts of which each has columns of its own."""
    DataContext.get_current().enable_progress_bars = False
    skate.data.range(60, override_num_blocks=6).map(drift).write_parquet(order["path"], resume=True)


def write_with_letters(order: dict[str, Any]) -> None:
    """Write six parts that have a bad row each, and note which letters there are after it."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.local_limit_bytes = order.get("local_limit_bytes", 1 << 20)
    rows = skate.data.range(60, override_num_blocks=6).map(parse, on_error="dead_letter")
    rows.write_parquet(order["path"], resume=True, dead_letter=order.get("dead_letter"))
    letters = [
        [letter["row"]["id"], letter["error_type"], letter["error"], letter["stage"]]
        for letter in rows.dead_letters().iter_rows()
    ]
    Path(order["noted"]).write_text(json.dumps(letters))


def run(order: dict[str, Any]) -> list[str]:
    """Do one run."""
    os.environ.update(order.get("environment", {}))
    if "drift" in order:
        write_drift(order)
        return []
    if "noted" in order:
        write_with_letters(order)
        return []
    options = order.get("options", {})
    sink = SINKS[order.get("format", "parquet")](order["path"], resume=order.get("resume", True), **options)
    if order.get("resume", True):
        sink.identify(
            order.get("plan", {"operators": ["read"], "source": [[part, 1] for part in order["parts"]]})
        )
    return play(sink, order["parts"], order["rows"], order.get("threads", 2), order.get("mixes", False))


def serve() -> None:
    """Fork a child for each line; say its process id, then how it ended."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 1
            try:
                run(json.loads(line))
                status = 0
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                sys.stderr.flush()
            finally:
                os._exit(status)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    serve()
