"""Command line of the benchmarks of data: measure and print, or show the newest results."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks import arguments, environments
from benchmarks.data import chart, inputs, report, runner
from benchmarks.data.engines import NAMES, ON_REQUEST
from benchmarks.data.lines import LINES, SECTIONS, SESSIONS

RESULTS = Path(__file__).resolve().parent.parent / "results"
LATEST = RESULTS / "data-latest.json"
QUICK_SCALE = 0.02
_LINES = arguments.lines(
    {it.name: [it.section, it.session] for it in LINES}, sections=SECTIONS, sessions=SESSIONS
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description="Measure skate.data beside multiprocessing, Ray Data, Daft, DuckDB, Polars, in one run.",
    )
    parser.add_argument("--rounds", type=int, help="rounds; the median counts (default 3)")
    parser.add_argument("--scale", type=float, help="fraction of the full size (default 1)")
    parser.add_argument("--quick", action="store_true", help=f"one round at a scale of {QUICK_SCALE}")
    parser.add_argument(
        "--only", type=_LINES, default=(), help="lines, comma-separated: names, patterns, sessions, sections"
    )
    parser.add_argument(
        "--engines",
        type=arguments.names(NAMES),
        default=tuple(it for it in NAMES if it not in ON_REQUEST),
        help=f"comma-separated: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=int(environments.machine()["cores"]),
        help="processes, or threads, of every engine (default: CPUs of this machine)",
    )
    parser.add_argument("--inputs", type=Path, help="a folder with unpacked packages (default: downloaded)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=inputs.default_cache(),
        help="where downloads and made tables stay (15 GB at full size)",
    )
    parser.add_argument(
        "--peers-python",
        help="interpreter with the engines and libraries (default: one is made from PyPI)",
    )
    parser.add_argument(
        "--timeout", type=float, default=1800.0, help="seconds until a line counts as hung (1800)"
    )
    parser.add_argument("--no-record", action="store_true", help="print the figures, write no file")
    parser.add_argument(
        "--record-latest", action="store_true", help="record as the latest even what is not a full run"
    )
    parser.add_argument("--download", action="store_true", help="download inputs and models, then stop")
    parser.add_argument("--markdown", action="store_true", help="print the page of the latest results")
    parser.add_argument("--results", type=Path, default=LATEST, help="what --markdown reads")
    parser.add_argument("--list", action="store_true", help="print the names of the lines")
    return parser


def _write(data: dict[str, Any], as_latest: bool) -> None:
    """A dated file for every run; `data-latest` for a full one: a quick look must not replace the record."""
    full = data["options"]["full"]
    stem = data["date"][:19].replace(":", "").replace("T", "-") + ("" if full else "-partial")
    dated = RESULTS / f"data-{stem}.json"
    RESULTS.mkdir(exist_ok=True)
    dated.write_text(json.dumps(data, indent=1) + "\n")
    written = [dated]
    notice = chart.draw(report.Results(data), dated.with_suffix(".png"))
    if not notice:
        written.append(dated.with_suffix(".png"))
    if full or as_latest:
        for path in written:
            shutil.copyfile(path, LATEST.with_suffix(path.suffix))
    names = ", ".join(path.name for path in written)
    print(f"\nwrote {names} to {RESULTS.name}/{', and as data-latest' if full or as_latest else ''}")
    if notice:
        print(notice)


def main() -> int:
    """Exit code 0; lines that failed are shown with their reasons."""
    options = _parser().parse_args()
    if options.list:
        for line in LINES:
            engines = ", ".join(NAMES[it] for it in line.engines)
            print(f"{line.section:18}{line.name:21}{line.title} [{line.unit}]: {engines}")
        return 0
    if options.markdown:
        there = options.results.exists()
        found = report.Results(json.loads(options.results.read_text())) if there else None
        print(report.as_markdown(found), end="")
        return 0

    lines = tuple(line for line in LINES if not options.only or line.name in options.only)
    cache = Path(runner.folder(options.cache))
    needed = lines if not options.download else LINES
    unpacked = options.inputs
    if unpacked is None and runner.needs_inputs(needed):
        unpacked = inputs.unpacked_packages(cache)
    models = inputs.models(cache) if runner.needs_models(needed) else cache
    if options.download:
        return 0
    plan = runner.Plan(
        engines=options.engines,
        lines=lines,
        rounds=options.rounds or (1 if options.quick else 3),
        scale=options.scale or (QUICK_SCALE if options.quick else 1.0),
        workers=options.workers,
        timeout_s=options.timeout,
        python=os.path.abspath(options.peers_python)
        if options.peers_python
        else environments.made_python(cache / "peers", runner.REQUIREMENTS, "--peers-python PATH"),
        cache=str(cache),
        unpacked=str((unpacked or cache).resolve()),
        models=str(models),
    )
    data = runner.run(plan)
    print(report.as_text(report.Results(data)))
    if not options.no_record:
        _write(data, options.record_latest)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
