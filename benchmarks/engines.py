"""Measures the same calls on skate's own runtime, on a Ray cluster by skate's engine, and on plain Ray.

    python -m benchmarks.engines --ray-python PATH-TO-A-PYTHON-WITH-RAY [--rounds 3] [--write docs/engines.md]

Each round starts three programs, one after the other. On Ray they join one cluster of this machine, which is
started for the run; so both see the same workers. A figure is the median of the rounds; the overhead is the
median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENGINES = {"skate": "skate", "engine": "skate on Ray", "ray": "Ray"}
BEGIN = "<!-- measured by python -m benchmarks.engines -->"
END = "<!-- end of measured -->"
MIB = 1 << 20
#: The cluster of a run, and the seconds until it must answer.
ADDRESS, START_S = "127.0.0.1:26379", 120.0


# ---------------------------------------------------------------------- in a child


def _per_second(call: Callable[[], Any], count: int, seconds: float = 2.0) -> float:
    """Call something that makes ``count`` calls, for a while; return calls per second."""
    call()
    rounds, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        call()
        rounds += 1
    return rounds * count / (time.perf_counter() - began)


def child(engine: str) -> dict[str, float]:
    """Measure in this process. The programs differ in the first line alone."""
    began = time.perf_counter()
    if engine == "ray":
        import ray
    else:
        import skate as ray  # type: ignore[no-redef]
    where = {} if engine == "skate" else {"address": "auto", "log_to_driver": False}
    ray.init(**where, **({"num_cpus": 2} if engine == "skate" else {}))

    @ray.remote
    def echo(value: Any) -> Any:
        return value

    @ray.remote
    class Actor:
        def echo(self, value: Any) -> Any:
            return value

    found: dict[str, float] = {}
    ray.get(echo.remote(1))
    found["import, init, first task (s)"] = time.perf_counter() - began
    ray.get([echo.remote(i) for i in range(200)])
    actor = Actor.remote()
    ray.get(actor.echo.remote(1))
    found["tasks one by one (1/s)"] = _per_second(lambda: ray.get(echo.remote(1)), 1)
    found["tasks pipelined, 500 (1/s)"] = _per_second(
        lambda: ray.get([echo.remote(i) for i in range(500)]), 500
    )
    found["actor calls one by one (1/s)"] = _per_second(lambda: ray.get(actor.echo.remote(1)), 1)
    found["actor calls pipelined, 500 (1/s)"] = _per_second(
        lambda: ray.get([actor.echo.remote(i) for i in range(500)]), 500
    )
    value = os.urandom(MIB)
    found["put and get 1 MiB (1/s)"] = _per_second(lambda: ray.get(ray.put(value)), 1)
    found["1 MiB through an actor (1/s)"] = _per_second(lambda: ray.get(actor.echo.remote(value)), 1)
    ray.shutdown()
    return found


# ---------------------------------------------------------------------- the parent


def _run(python: str, engine: str, address: str | None) -> dict[str, float]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    if engine == "engine":
        environment["SKATE_ENGINE"] = "ray"
    if address:
        environment["RAY_ADDRESS"] = address
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [python, "-m", "benchmarks.engines", "--child", engine, "--report", str(report)],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"the program on {ENGINES[engine]} failed:\n{done.stdout}{done.stderr}")
        found: dict[str, float] = json.loads(report.read_text())
        return found


@contextmanager
def _cluster(python: str, address: str) -> Iterator[None]:
    """A Ray cluster of one node, as long as the block runs. Its leader ends what it started."""
    command = [
        str(Path(python).parent / "ray"), "start", "--head", f"--port={address.rpartition(':')[2]}",
        "--num-cpus=2", "--include-dashboard=false", "--block",
    ]  # fmt: skip
    with tempfile.TemporaryFile("w+") as output:
        leader = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
        )
        try:
            host, _, port = address.rpartition(":")
            until = time.monotonic() + START_S
            while True:
                try:
                    socket.create_connection((host, int(port))).close()
                    break
                except OSError:
                    if leader.poll() is not None or time.monotonic() > until:
                        output.seek(0)
                        raise SystemExit(f"the cluster did not start:\n{output.read()}") from None
                    time.sleep(0.1)
            yield
        finally:
            leader.terminate()
            leader.wait()


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """Return the table of a run: medians, and the medians of the ratios in each round."""
    lines = [
        "| | skate | skate on Ray | Ray | overhead over Ray |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for line in rounds[0]["ray"]:
        cells = [f"{statistics.median(one[engine][line] for one in rounds):,.3g}" for engine in ENGINES]
        more = [one["engine"][line] / one["ray"][line] for one in rounds]
        if "1/s" in line:
            more = [1 / ratio for ratio in more]
        lines.append(f"| {line} | {' | '.join(cells)} | {100 * (statistics.median(more) - 1):+.0f} % |")
    return "\n".join(lines)


def main() -> None:
    """Run all, print the table, and write it into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ray-python", help="a Python with ray and skate's requirements")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        arguments.report.write_text(json.dumps(child(arguments.child)))
        return
    python = arguments.ray_python or parser.error("--ray-python is needed")
    rounds = []
    with _cluster(python, ADDRESS):
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            rounds.append(
                {engine: _run(python, engine, None if engine == "skate" else ADDRESS) for engine in ENGINES}
            )
    found = table(rounds)
    print(found)
    if arguments.write:
        text = arguments.write.read_text()
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        arguments.write.write_text(f"{before}{BEGIN}\n{found}\n{END}{after}")


if __name__ == "__main__":
    main()
