"""Command line of the benchmarks of serve: measure and print, or show the newest results."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks import arguments
from benchmarks.serve import chart, load, report, runner
from benchmarks.serve.lines import LINES, SESSIONS
from benchmarks.serve.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
LATEST = RESULTS / "serve-latest.json"
PAGE = ROOT / "docs" / "serve-performance.md"
FULL_S, QUICK_S = 3.0, 1.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description="Measure skate.serve beside uvicorn, Ray Serve, LitServe and BentoML, in one run.",
    )
    parser.add_argument("--rounds", type=int, help="rounds; the median counts (default 3)")
    parser.add_argument(
        "--peer-rounds", type=int, default=1, help="rounds of all systems but skate and uvicorn (1)"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"one round with {QUICK_S:g} s of load a line, skate and uvicorn"
    )
    parser.add_argument("--seconds", type=float, help=f"of load for a line (default {FULL_S:g})")
    parser.add_argument(
        "--lines",
        type=arguments.lines({it.name: [it.session] for it in LINES}, sessions=SESSIONS),
        default=(),
        help="comma-separated: names, patterns ('echo_*'), sessions",
    )
    parser.add_argument(
        "--systems", type=arguments.names(SYSTEMS), help=f"comma-separated: {', '.join(SYSTEMS)}"
    )
    parser.add_argument("--generator", choices=["wrk", "own"], help="default: wrk if it is installed")
    parser.add_argument("--ray-python", help="interpreter with ray[serve]")
    parser.add_argument("--peers-python", help="interpreter with litserve, bentoml, uvicorn[standard]")
    parser.add_argument(
        "--timeout", type=float, default=180.0, help="seconds until a line counts as hung (180)"
    )
    parser.add_argument("--no-record", action="store_true", help="print the figures, write no file")
    parser.add_argument("--markdown", action="store_true", help="print the page of the latest results")
    parser.add_argument(
        "--readme", action="store_true", help="print the README's table of the latest results"
    )
    parser.add_argument("--results", type=Path, default=LATEST, help="what those two read")
    parser.add_argument("--list", action="store_true", help="print the names of the lines")
    return parser


def _write(data: dict[str, Any]) -> None:
    """A dated file for every run. A full one is the latest as well, and the documents show it."""
    results = report.Results(data)
    full = data["options"]["full"]
    stem = data["date"][:19].replace(":", "").replace("T", "-") + ("" if full else "-partial")
    RESULTS.mkdir(exist_ok=True)
    written = [RESULTS / f"serve-{stem}.json"]
    written[0].write_text(json.dumps(data, indent=1) + "\n")
    notice = chart.draw(results, written[0].with_suffix(".svg"))
    if not notice:
        written.append(written[0].with_suffix(".svg"))
    if full:
        for path in written:
            shutil.copyfile(path, LATEST.with_suffix(path.suffix))
        PAGE.write_text(report.as_markdown(results))
        readme = ROOT / "README.md"
        readme.write_text(report.with_table(readme.read_text(), results))
    names = ", ".join(path.name for path in written)
    print(f"\nwrote {names} to {RESULTS.name}/{', as serve-latest, and the documents' if full else ''}")
    if notice:
        print(notice)


def _pythons(options: argparse.Namespace) -> dict[str, str]:
    named = {"own": sys.executable, "ray": options.ray_python, "peers": options.peers_python}
    return {kind: os.path.abspath(python) for kind, python in named.items() if python}


def main() -> int:
    """Exit code 0; lines that failed are shown with their reasons."""
    options = _parser().parse_args()
    if options.list:
        for line in LINES:
            print(f"{line.session:9}{line.name:15}{line.title}: {', '.join(line.systems)}")
        return 0
    if options.markdown or options.readme:
        there = options.results.exists()
        found = report.Results(json.loads(options.results.read_text())) if there else None
        print(report.readme_table(found) if options.readme else report.as_markdown(found), end="")
        return 0
    plan = runner.Plan(
        systems=options.systems or (("skate", "uvicorn") if options.quick else tuple(SYSTEMS)),
        lines=tuple(line for line in LINES if not options.lines or line.name in options.lines),
        rounds=options.rounds or (1 if options.quick else 3),
        peer_rounds=options.peer_rounds,
        seconds=options.seconds or (QUICK_S if options.quick else FULL_S),
        timeout_s=options.timeout,
        generator=options.generator or ("wrk" if load.has_wrk() else "own"),
        pythons=_pythons(options),
    )
    data = runner.run(plan)
    print(report.as_text(report.Results(data)))
    if not options.no_record:
        _write(data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
