"""Runs the suites (the core, data and serve) on skate and on real Ray, and shows file by file what passes where.

    python tests/compat/compare.py --ray-python PATH-TO-A-PYTHON-WITH-RAY [FILE-OR-FOLDER ...]

The exit status is 0 if both agree in everything but what a marker in the suite names (see ``differences``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compat.markers import SUITES

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "compat"

#: Outcomes of a run: test to "passed", "failed", "xfailed" or "skipped".
Outcomes = dict[str, str]


def run(python: str, on: str, files: list[str], folder: Path) -> tuple[Outcomes, float]:
    """Run the suite on one system; return how each test ended, and the seconds."""
    report = folder / f"{on}.json"
    environment = os.environ | {
        "CONFORMANCE_ON": on,
        "CONFORMANCE_OUTCOMES": str(report),
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT / "src"), str(ROOT / "tests")] if on == "skate" else [str(ROOT / "tests")]
        ),
    }
    how = ["-m", "skate", "run", "-m", "pytest"] if on == "skate" else ["-m", "pytest"]
    print(f"running on {on} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    done = subprocess.run(
        [python, *how, "-q", "-c", str(HERE / "ray.ini"), f"--rootdir={HERE}",
         *(files or [str(HERE / suite) for suite in SUITES])],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if not report.exists():
        raise SystemExit(f"the run on {on} broke off:\n{done.stdout}")
    outcomes: Outcomes = json.loads(report.read_text())
    if "failed" in outcomes.values():
        print(f"on {on}:\n{done.stdout}", file=sys.stderr)
    return outcomes, time.perf_counter() - began


def verdict(ours: str | None, theirs: str | None) -> str:
    """Return the column that a test counts in."""
    if ours == theirs == "passed":
        return "both"
    if "skipped" in (ours, theirs):
        return "skipped"
    if "failed" in (ours, theirs) or None in (ours, theirs):
        return "unexpected"
    return {("passed", "xfailed"): "only skate", ("xfailed", "passed"): "only Ray"}.get(
        (str(ours), str(theirs)), "neither"
    )


COLUMNS = ("both", "only skate", "only Ray", "neither", "skipped", "unexpected")


def area(test: str) -> str:
    """Return the line that a test counts in: its file, and for other suites than the core's the suite."""
    path = Path(test.partition("::")[0])
    name = path.stem.removeprefix("test_")
    return name if path.parent.name in ("", SUITES[0]) else f"{path.parent.name}: {name}"


def table(ours: Outcomes, theirs: Outcomes) -> tuple[str, list[str]]:
    """Return the table, and a line for each difference that no marker names."""
    files: dict[str, Counter[str]] = {}
    unexpected = []
    for test in {**ours, **theirs}:
        file = area(test)
        column = verdict(ours.get(test), theirs.get(test))
        files.setdefault(file, Counter())[column] += 1
        if column == "unexpected":
            unexpected.append(
                f"{test}: {ours.get(test, 'did not run')} on skate, {theirs.get(test, 'did not run')} on Ray"
            )
    lines = [f"| {'area':18} | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for file, counts in sorted(files.items()):
        lines.append(f"| {file:18} | " + " | ".join(str(counts[name]) for name in COLUMNS) + " |")
    total: Counter[str] = sum(files.values(), Counter())
    lines.append(f"| {'in all':18} | " + " | ".join(str(total[name]) for name in COLUMNS) + " |")
    return "\n".join(lines), unexpected


def main() -> int:
    """Run both, print the table; return 1 if they differ where no marker says so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--ray-python", required=True, help="a Python in whose environment ray and pytest are"
    )
    parser.add_argument("files", nargs="*", help="files or folders of the suites; default: all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, our_time = run(sys.executable, "skate", arguments.files, Path(folder))
        theirs, their_time = run(arguments.ray_python, "ray", arguments.files, Path(folder))
    text, unexpected = table(ours, theirs)
    print(text)
    print(f"\n{our_time:.0f} s on skate, {their_time:.0f} s on Ray")
    for line in unexpected:
        print(f"not named by any marker: {line}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
