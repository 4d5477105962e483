"""Command line of the benchmarks: measure and print, or read the newest results."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks import arguments, chart, environments, report, runner
from benchmarks.lines import GROUPS, LINES, SYSTEMS
from benchmarks.measure import Effort

RESULTS = Path(__file__).resolve().parent / "results"
FULL = Effort(seconds=1.0, scale=1.0)
QUICK = Effort(seconds=0.25, scale=0.25)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure skate beside Ray, ProcessPoolExecutor and a bare socket loop, in one run.",
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds; the median counts (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round with small counts")
    parser.add_argument(
        "--only",
        type=arguments.lines({it.name: [it.group] for it in LINES}, groups=GROUPS),
        default=(),
        help="lines, comma-separated: names or patterns ('queue_*'), or groups of --list",
    )
    parser.add_argument("--no-record", action="store_true", help="print the figures, write no file")
    parser.add_argument(
        "--systems", type=arguments.names(SYSTEMS), default=tuple(SYSTEMS), help="systems, comma-separated"
    )
    parser.add_argument(
        "--skate-python", default=sys.executable, help="interpreter with skate (default: this one)"
    )
    parser.add_argument("--ray-python", help="interpreter with Ray (default: one is made and Ray installed)")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds until a line counts as hung (60)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the latest run as a Markdown table")
    parser.add_argument(
        "--check", action="store_true", help="print the targets of the latest run, hit or missed"
    )
    parser.add_argument("--results", type=Path, default=RESULTS / "latest.json", help="what those two read")
    parser.add_argument("--list", action="store_true", help="print the names of the lines")
    return parser


def _read(path: Path) -> report.Results:
    if not path.exists():
        raise SystemExit(
            f"{path.name} does not exist: run `python -m benchmarks` first (a full run writes it)"
        )
    return report.Results(json.loads(path.read_text()))


def _interpreters(options: argparse.Namespace) -> dict[str, environments.Interpreter]:
    found = {}
    for system in options.systems:
        if system == "ray":
            python = options.ray_python or environments.ray_python()
        else:
            python = options.skate_python if system == "skate" else sys.executable
        found[system] = environments.probe(python, system)
    return found


def _write(data: dict[str, Any]) -> None:
    """A dated file for every run; `latest` only for a full one: a quick look must not replace the record."""
    results = report.Results(data)
    full = data["options"]["full"]
    dated = RESULTS / (data["date"][:19].replace(":", "").replace("T", "-") + ("" if full else "-partial"))
    RESULTS.mkdir(exist_ok=True)
    written = [dated.with_suffix(".json")]
    written[0].write_text(json.dumps(data, indent=1) + "\n")
    notice = chart.draw(results, dated.with_suffix(".png"))
    if not notice:
        written.append(dated.with_suffix(".png"))
    if full:
        for path in written:
            shutil.copyfile(path, RESULTS / f"latest{path.suffix}")
    names = ", ".join(path.name for path in written)
    print(f"\nwrote {names} to {RESULTS.name}/{', and as latest' if full else ''}")
    if notice:
        print(notice)


def main() -> int:
    """Exit code 1 if `--check` finds a target that is not hit; a failed line does not fail a run."""
    options = _parser().parse_args()
    if options.list:
        print("\n".join(f"{line.group:12}{line.name:20}{line.title}, {line.unit}" for line in LINES))
        return 0
    if options.markdown or options.check:
        results = _read(options.results)
        if options.markdown:
            print(report.as_markdown(results))
        if not options.check:
            return 0
        text, all_hit = report.as_check(results)
        print(text)
        return 0 if all_hit else 1

    plan = runner.Plan(
        systems=options.systems,
        lines=tuple(line for line in LINES if not options.only or line.name in options.only),
        rounds=options.rounds or (1 if options.quick else 3),
        effort=QUICK if options.quick else FULL,
        timeout_s=options.timeout,
    )
    data = runner.run(plan, _interpreters(options))
    print(report.as_text(report.Results(data)))
    if not options.no_record:
        _write(data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
