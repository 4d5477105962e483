"""Runs the classic programs, and those of ray.data, on skate and on real Ray; compares outputs, shows times.

    python examples/compare.py --ray-python PATH-TO-A-PYTHON-WITH-RAY

The programs say ``import ray`` and are not changed: ``skate run`` runs them on skate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
FOLDERS = ("classic", "data_classic")
#: Seconds for one program. Exchanges of Ray Data take tens of seconds on a busy machine.
TIME_LIMIT = 900


def run(command: list[str]) -> tuple[str, float]:
    """Return what a program printed, and the seconds that it took."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIME_LIMIT)
    taken = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout, taken


def main() -> int:
    """Compare all programs, or those that are named; return 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ray-python", required=True, help="a Python in whose environment ray[data] is")
    parser.add_argument("programs", nargs="*", type=Path, help="default: all")
    arguments = parser.parse_args()
    different = 0
    print(f"| {'program':22} | skate (s) | Ray (s) | times faster | output |\n|---|---:|---:|---:|---|")
    everything = (file for folder in FOLDERS for file in HERE.glob(f"{folder}/*.py"))
    for program in arguments.programs or sorted(everything):
        ours, our_time = run([sys.executable, "-m", "skate", "run", str(program)])
        theirs, their_time = run([arguments.ray_python, str(program)])
        equal = ours == theirs
        different += not equal
        print(
            f"| {program.stem:22} | {our_time:.2f} | {their_time:.2f} | {their_time / our_time:.0f} | "
            f"{'equal' if equal else 'DIFFERENT'} |",
            flush=True,
        )
        if not equal:
            print(f"skate:\n{ours}\nRay:\n{theirs}", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
