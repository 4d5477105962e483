"""Runs the classic programs on skate and on real Ray, compares what they print, and shows both times.

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

CLASSIC = Path(__file__).parent / "classic"


def run(command: list[str]) -> tuple[str, float]:
    """Return what a program printed, and the seconds that it took."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    taken = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout, taken


def main() -> int:
    """Compare all programs; return 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ray-python", required=True, help="a Python in whose environment ray and numpy are")
    arguments = parser.parse_args()
    different = 0
    print(f"| {'program':22} | skate (s) | Ray (s) | times faster | output |\n|---|---:|---:|---:|---|")
    for program in sorted(CLASSIC.glob("*.py")):
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
