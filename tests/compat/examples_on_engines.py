"""Runs the examples on the engines, and compares what they print with what they print on skate's own runtime.

python tests/compat/examples_on_engines.py --engine inline --engine ray --ray-python PATH [PROGRAM ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compat.on_ray import with_skate

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
FOLDERS = ("", "classic", "data", "data_classic")
#: Programs about one engine, or about times.
LEFT_OUT = {
    "compare": "runs the others",
    "serve_pipeline": "needs processes that share a socket",
    "shared_arrays": "prints times and sizes of its own run",
}
#: Seconds for one program; a Ray cluster takes some to start.
TIME_LIMIT = 300


def output(program: Path, engine: str, ray_python: str, folder: Path) -> str:
    """Return what a program prints on an engine."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("SKATE_ENGINE", "SKATE_MODE")
    }
    environment |= {
        "PYTHONPATH": str(ROOT / "src"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    copy = folder / program.name
    copy.write_text(with_skate(program.read_text()))
    if engine == "inline":
        environment["SKATE_MODE"] = "inline"
    elif engine == "ray":
        environment |= {"SKATE_ENGINE": "ray", "RAY_ADDRESS": "local"}
    done = subprocess.run(
        [ray_python if engine == "ray" else sys.executable, str(copy)],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=TIME_LIMIT, check=False,
    )  # fmt: skip
    if done.returncode:
        return f"exit {done.returncode}:\n{done.stdout}{done.stderr[-3000:]}"
    return done.stdout


def main() -> int:
    """Compare all programs, or those that are named; return 1 if any differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", action="append", required=True, choices=("inline", "ray"))
    parser.add_argument("--ray-python", default=sys.executable)
    parser.add_argument("programs", nargs="*", help="names without .py; default: all")
    arguments = parser.parse_args()
    found = sorted(file for folder in FOLDERS for file in (EXAMPLES / folder).glob("*.py"))
    chosen = [file for file in found if file.stem not in LEFT_OUT]
    if arguments.programs:
        chosen = [file for file in chosen if file.stem in arguments.programs]
    different = 0
    for program in chosen:
        outputs = {}
        for engine in ("skate", *arguments.engine):
            with tempfile.TemporaryDirectory() as folder:
                outputs[engine] = output(program, engine, os.path.abspath(arguments.ray_python), Path(folder))
        for engine in arguments.engine:
            equal = outputs[engine] == outputs["skate"]
            different += not equal
            name = str(program.relative_to(EXAMPLES))
            print(f"{name} on {engine}: {'equal' if equal else 'DIFFERENT'}", flush=True)
            if not equal:
                print(f"skate:\n{outputs['skate']}\n{engine}:\n{outputs[engine]}", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
