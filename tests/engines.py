"""Runs the suites that hold on every engine: the conformance suite, tests of ``skate.data``, a cluster of nodes, examples.

    python tests/engines.py --engine skate --engine inline
    python tests/engines.py --engine ray --ray-python PATH-TO-A-PYTHON-WITH-RAY

Arguments that it does not know go to pytest. On Ray the conformance suite runs as ``compat/on_ray.py`` says, and that
Python needs the extra ``test`` of this project besides Ray. The benchmarks of data run there on three nodes, at a small
scale: see ``compat/benchmarks_on_nodes.py`` for what they need.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
CONFORMANCE = TESTS / "compat" / "conformance"
#: Tests about what pipelines compute, and not about one engine's processes.
DATA = (
    "verbs/test_rows.py",
    "verbs/test_columns.py",
    "verbs/test_loops.py",
    "verbs/test_streaming_split.py",
    "verbs/test_writes.py",
    "exchange/test_aggregates.py",
    "exchange/test_sort_and_join.py",
)
#: A part of the suites that is run where time is short, such as in CI.
PART = ("tasks", "exceptions", "objects")
#: Of the benchmarks' full size: one to three good files and four broken ones each, or 50,000 rows.
SCALE = "0.001"


def commands(engine: str, python: str, is_part: bool) -> list[tuple[str, list[str]]]:
    """Return what runs on an engine: names, and command lines."""
    pytest = [python, "-m", "pytest", "-q", "--engine", engine]
    files = [str(TESTS / "data" / name) for name in (DATA[:1] if is_part else DATA)]
    examples = [sys.executable, str(TESTS / "compat" / "examples_on_engines.py"), "--engine", engine]
    if engine != "ray":
        suite = [str(CONFORMANCE / f"test_{name}.py") for name in PART] if is_part else [str(CONFORMANCE)]
        found = [("conformance", [*pytest, *suite]), ("data", [*pytest, *files])]
        return found + ([] if is_part or engine == "skate" else [("examples", examples)])
    only = ["--only", ",".join(PART)] if is_part else []
    benchmarks = [python, str(TESTS / "compat" / "benchmarks_on_nodes.py"), "--scale", SCALE]
    more = [("benchmarks on three nodes", benchmarks), ("examples", [*examples, "--ray-python", python])]
    return [
        ("conformance", [python, str(TESTS / "compat" / "on_ray.py"), "--ray-python", python, *only]),
        ("data", [*pytest, *files]),
        ("three nodes", [python, str(TESTS / "compat" / "nodes_on_ray.py")]),
        *([] if is_part else more),
    ]


def main() -> int:
    """Run them; return 0 if all passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", action="append", required=True, choices=("skate", "inline", "ray"))
    parser.add_argument(
        "--ray-python",
        type=os.path.abspath,
        default=sys.executable,
        help="a Python with ray, and what tests need",
    )
    parser.add_argument("--part", action="store_true", help="a part of each suite")
    arguments, rest = parser.parse_known_args()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(TESTS)])}
    failed = []
    for engine in arguments.engine:
        python = arguments.ray_python if engine == "ray" else sys.executable
        for suite, command in commands(engine, python, arguments.part):
            print(f"== {suite} on {engine}", flush=True)
            more = rest if suite in ("conformance", "data") else []
            if subprocess.run([*command, *more], cwd=ROOT, env=environment, check=False).returncode:
                failed.append(f"{suite} on {engine}")
    print(f"failed: {', '.join(failed)}" if failed else "all passed on: " + ", ".join(arguments.engine))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
