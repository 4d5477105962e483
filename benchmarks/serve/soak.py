"""Does anything grow in a session of serve? Half an hour of clients of all kinds, and updates.

    python -m benchmarks.serve.soak [--minutes 30] [--rate 150] [--limit 1]

Prints, for every process that lived from the warm-up to the end, its memory, descriptors, threads, tasks of
asyncio and blocks of Python at tenths of the way, and the slope of a line through its resident memory, in MB
an hour. Processes that come and go, the replicas of the application that is updated, are shown by their age
at death. Exits with 1 if a slope is above the limit or a request failed. Where others use the machine, too,
choose a `--rate` that leaves half of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import skate
from benchmarks import processes
from benchmarks.serve import soak_application, soak_clients
from skate import serve
from skate.util.state import list_actors

SAMPLE_S = 5.0
UPDATE_S = 120.0
"""Between two updates."""
CALLS = 50
"""Of the driver, between two samples."""
WARM_UP = 1 / 3
"""The part of the time after which everything has been seen once: versions were replaced, caches are full.
The largest are the last 5,000 calls of each process, and the last 5,000 that failed."""
SCRAPES = 10
"""Between two samples of the warm-up: the controller makes no other calls in numbers."""
SERVICER = "benchmarks.serve.soak_application.add_to_server"
ASK_S = 20.0


class Sample(NamedTuple):
    """One process at one time. What only the process itself knows is -1 where it is no actor.

    Attributes:
        at: seconds since the start.
        rss, own: resident, and what no other process has, in bytes.
        tasks: of asyncio.
        blocks: which Python has allocated.
    """

    at: float
    rss: float
    own: float
    descriptors: float
    threads: float
    tasks: float = -1
    blocks: float = -1


@dataclass
class Course:
    """The samples of a process, as bare numbers: the driver, which keeps them, is looked at, too."""

    name: str
    numbers: array[float] = field(default_factory=lambda: array("d"))

    @property
    def samples(self) -> list[Sample]:
        width = len(Sample._fields)
        return [Sample(*self.numbers[at : at + width]) for at in range(0, len(self.numbers), width)]

    def slope(self, since: float) -> float:
        """Resident memory in MB (10^6 bytes) an hour: a least-squares line."""
        return slope([(one.at / 3600, one.rss / 1e6) for one in self.samples if one.at >= since])


def slope(points: list[tuple[float, float]]) -> float:
    """Return that of a least-squares line; of fewer than two points 0."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def sample(pid: int, at: float, inside: tuple[int, int] | None) -> Sample | None:
    """Look at a process; None if it is gone."""
    found = processes.memory([pid])
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    threads = int(status.split("Threads:")[1].split()[0])
    return Sample(at, found.rss, found.uss, descriptors, threads, *(inside or ()))


def _facts(actor: Any) -> tuple[int, int]:
    """Runs on the loop of an actor."""
    import asyncio
    import sys

    return len(asyncio.all_tasks()), sys.getallocatedblocks()


class Session:
    """The processes of this session, by their names.

    Args:
        mark: its folder, which the command lines of its roles have.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._left_out: set[int] = set()
        self.courses: dict[int, Course] = {}

    def leave_out(self, pid: int) -> None:
        """A process that is none of skate's."""
        self._left_out.add(pid)

    def look(self, at: float) -> None:
        """Take a sample of each process."""
        actors = {row.pid: row for row in list_actors() if row.state == "ALIVE" and row.pid}
        inside = dict(_ask(actors))
        here = os.getpid()
        for pid in {here} | processes.family(self._mark, here, here) - self._left_out:
            course = self.courses.get(pid)
            name = actors[pid].name.removeprefix("SERVE_") if pid in actors else self._role(pid)
            if course is None or (pid in actors and course.name != name):  # an idle worker became an actor
                course = self.courses[pid] = Course(name)
            if (found := sample(pid, at, inside.get(pid))) is not None:
                course.numbers.extend(found)

    def _role(self, pid: int) -> str:
        if pid == os.getpid():
            return "driver"
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return "?"
        roles = {"skate._node": "daemon", "skate._control": "control", "skate::": "worker"}
        return next((role for text, role in roles.items() if text in command), "zygote")


def _ask(actors: dict[int, Any]) -> Iterable[tuple[int, tuple[int, int]]]:
    """Have actors say what only they know, by process."""
    refs = {}
    for pid, row in actors.items():
        try:
            actor = skate.get_actor(row.name, namespace=row.ray_namespace)
        except ValueError:
            continue  # it has ended meanwhile
        refs[pid] = actor.__ray_call__.remote(_facts)
    for pid, ref in refs.items():
        try:
            yield pid, skate.get(ref, timeout=ASK_S)
        except skate.exceptions.RayError:
            continue


def report(courses: Iterable[Course], seconds: float, limit: float) -> list[str]:
    """Print what became of each process; return what is wrong."""
    since, wrong, short = WARM_UP * seconds, [], []
    for course in sorted(courses, key=lambda one: one.name):
        samples = course.samples
        if not samples:
            continue  # it was gone at once
        if samples[0].at > since or samples[-1].at < seconds - 10 * SAMPLE_S:
            short.append(course)
            continue
        found = course.slope(since)
        own = slope([(one.at / 3600, one.own / 1e6) for one in samples if one.at >= since])
        print(f"{course.name}: slope {found:+.2f} MB/h (what it has for itself: {own:+.2f})")
        shown = samples[:: max(1, len(samples) // 10)]
        for label, scale, values in (
            ("rss, MB", 1e6, [one.rss for one in shown]),
            ("descriptors", 1, [one.descriptors for one in shown]),
            ("threads", 1, [one.threads for one in shown]),
            ("tasks", 1, [one.tasks for one in shown if one.tasks >= 0]),
            ("blocks, 1000", 1e3, [one.blocks for one in shown if one.blocks >= 0]),
        ):
            if values:
                print(f"  {label:13}", *(f"{value / scale:8.{2 if scale > 1 else 0}f}" for value in values))
        if found > limit:
            wrong.append(f"{course.name} grows by {found:.2f} MB/h")
    print("processes that came or went: seconds of life, and MB at the end")
    for course in sorted(short, key=lambda one: one.samples[0].at):
        samples = course.samples
        first, last = samples[0], samples[-1]
        print(f"  {course.name:60} {first.at:6.0f} + {last.at - first.at:5.0f} s {last.rss / 1e6:8.2f}")
    return wrong


def drive(session: Session, minutes: float, address: str) -> None:
    """Call by handles, update, and look, for so long."""
    words = serve.get_deployment_handle("Words", "steady")
    began = time.monotonic()
    version, number = 0, 0
    while (now := time.monotonic() - began) < 60 * minutes:
        if now >= (version + 1) * UPDATE_S:
            version += 1
            serve.run(soak_application.updated(version), name="updated", route_prefix="/updated")
        for _ in range(CALLS // 2):
            words.remote("x").result(timeout_s=ASK_S)
            list(words.options(stream=True).parts.remote("x"))
        for _ in range(SCRAPES if now < 60 * minutes * WARM_UP else 0):
            urlopen(f"http://{address}/-/metrics", timeout=ASK_S).close()
        serve.status()
        session.look(time.monotonic() - began)
        number += 1
        if number % 12 == 0:
            print(
                f"{now / 60:.0f} min: {len(session.courses)} processes so far, {version} updates", flush=True
            )
        time.sleep(max(0.0, began + number * SAMPLE_S - time.monotonic()))


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=150, help="requests a second (default 150)")
    parser.add_argument("--limit", type=float, default=1, help="MB an hour (default 1)")
    given = parser.parse_args()
    here = skate.init(num_cpus=2, object_store_memory=500_000_000)
    serve.start(http_options={"port": 0}, grpc_options={"port": 0, "grpc_servicer_functions": [SERVICER]})
    serve.run(soak_application.steady(), name="steady", route_prefix="/")
    serve.run(soak_application.updated(0), name="updated", route_prefix="/updated")
    (address,) = (one for one in serve.status().proxies if "://" not in one)
    (grpc_address,) = (one for one in serve.status().proxies if one.startswith("grpc://"))
    command = [sys.executable, "-m", "benchmarks.serve.soak_clients", "--rate", str(given.rate)]
    command += ["--port", str(urlsplit(f"//{address}").port), "--grpc-port", str(urlsplit(grpc_address).port)]
    command += ["--warm-up", str(60 * given.minutes * WARM_UP)]
    session = Session(here["session_dir"])
    clients = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    session.leave_out(clients.pid)
    try:
        drive(session, given.minutes, address)
        output, _ = clients.communicate(
            timeout=2 * soak_clients.PATIENCE_S
        )  # closes its input, which ends it
    finally:
        clients.kill()
    wrong = report(session.courses.values(), 60 * given.minutes, given.limit)
    found = json.loads(output)
    print(sum(found["answers"].values()), "answers:", found["answers"])
    wrong += [f"{count} times {what}" for what, count in found["failures"].items()]
    serve.shutdown()
    skate.shutdown()
    print(*(["FAILED", *wrong] if wrong else ["ok"]), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
