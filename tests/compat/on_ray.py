"""Runs the conformance suite through skate's engine on Ray, in a Python that has Ray.

    python tests/compat/on_ray.py --ray-python PATH-TO-A-PYTHON-WITH-RAY [ARGUMENTS OF PYTEST ...]

The tests say ``import ray``, and in such a process that is Ray itself, which the engine needs. So they run as a copy in
which those imports are of skate. What differs from plain Ray is marked ``differs(on="engine", ...)``; what skate and
Ray do differently may come out either way.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
#: Files of the suite about names of Ray, which are for programs that say ``import ray``.
ABSENT = ("aliases", "modules")
#: Imports at the beginning of a line, also in programs that tests write.
_IMPORTS = (
    (re.compile(r"^(\s*)import ray$", re.MULTILINE), r"\1import skate as ray"),
    (re.compile(r"^(\s*)import ray((?:\.\w+)+)$", re.MULTILINE), r"\1import skate\2; import skate as ray"),
    (re.compile(r"^(\s*)import ray((?:\.\w+)*) as (\w+)$", re.MULTILINE), r"\1import skate\2 as \3"),
    (re.compile(r"^(\s*)from ray((?:\.\w+)*) import ", re.MULTILINE), r"\1from skate\2 import "),
)


def with_skate(source: str) -> str:
    """Return a program in which ``ray`` is skate."""
    for pattern, replacement in _IMPORTS:
        source = pattern.sub(replacement, source)
    return source


def copy(to: Path) -> None:
    """Copy the suite, with skate in the place of Ray."""
    target = to / "compat"
    shutil.copytree(HERE, target, ignore=shutil.ignore_patterns("__pycache__", "data", "test_*.py"))
    for file in (HERE / "conformance").glob("*.py"):
        shutil.copy(file, target / "conformance")
    for name in ABSENT:
        (target / "conformance" / f"test_{name}.py").unlink()
    for path in (target / "conformance").glob("*.py"):
        path.write_text(with_skate(path.read_text()))


def main() -> int:
    """Run the suite; return pytest's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--ray-python", required=True, help="a Python with ray, pytest and skate's requirements"
    )
    parser.add_argument("--only", default="", help="files of the suite, comma-separated: tasks,actors")
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        suite = Path(folder) / "compat" / "conformance"
        files = [suite / f"test_{name}.py" for name in arguments.only.split(",") if name] or [suite]
        report = Path(folder) / "outcomes.json"
        environment = os.environ | {
            "CONFORMANCE_ON": "engine",
            "CONFORMANCE_OUTCOMES": str(report),
            "SKATE_ENGINE": "ray",
            "RAY_AUTH_MODE": "disabled",
            "RAY_ADDRESS": "local",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), folder]),
        }
        done = subprocess.run(
            [os.path.abspath(arguments.ray_python), "-m", "pytest", "-q", "-c", str(suite.parent / "ray.ini"),
             f"--rootdir={suite.parent}", *rest, *map(str, files)],
            cwd=folder, env=environment, check=False,
        )  # fmt: skip
        if report.exists():
            counts = Counter(json.loads(report.read_text()).values())
            print("skate on Ray:", ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
