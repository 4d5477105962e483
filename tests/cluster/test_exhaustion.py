"""Memory runs out inside the runtime: what users are told, and what they can do then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import skate
from skate.exceptions import ActorDiedError, LocalRayletDiedError, OutOfMemoryError

from . import faults


@skate.remote(max_retries=0)
def double(number: int) -> int:
    return 2 * number


@skate.remote
class Doubling:
    def double(self, number: int) -> int:
        return 2 * number


def test_a_worker_ends_where_its_tables_change_and_says_so(tmp_path: Path) -> None:
    skate.init(num_cpus=1, runtime_env=faults.environment("reply written", "raise", 1, 2, str(tmp_path)))
    with pytest.raises(
        OutOfMemoryError, match=r"double.*ran out of memory inside the runtime in .*\.py, line"
    ):
        for number in range(10):
            assert skate.get(double.remote(number)) == 2 * number
    actor = Doubling.remote()
    with pytest.raises(ActorDiedError, match="ran out of memory inside the runtime"):
        for number in range(10):
            assert skate.get(actor.double.remote(number)) == 2 * number
    assert skate.get(double.remote(4)) == 8


def test_what_happens_outside_of_the_tables_fails_alone(tmp_path: Path) -> None:
    """The same, while arguments are read: the call fails, its worker goes on."""
    plan = faults.environment("unpickled arguments", "raise", 1, 1, str(tmp_path))
    skate.init(num_cpus=1, runtime_env=plan)
    actor = Doubling.remote()
    with pytest.raises(MemoryError, match="Doubling.double failed in worker process"):
        for number in range(10):
            assert skate.get(actor.double.remote(number)) == 2 * number
    assert skate.get(actor.double.remote(4)) == 8


def test_a_put_without_memory_is_no_fault_of_the_value() -> None:
    with faults.Raising("pickling a put") as fault:
        skate.init(num_cpus=1)
        fault.arm()
        with pytest.raises(MemoryError):
            skate.put([1, 2])
        assert skate.get(skate.put([1, 2])) == [1, 2]


def test_a_drivers_session_is_lost_when_its_tables_are_not_to_be_trusted() -> None:
    with faults.Raising("value there") as fault:
        skate.init(num_cpus=1)
        ref = double.remote(1)
        fault.arm()
        for _ in range(2):
            with pytest.raises(
                LocalRayletDiedError, match=r"ran out of memory for skate itself.*shutdown\(\)"
            ):
                skate.get(ref)
        with pytest.raises(LocalRayletDiedError, match="ran out of memory for skate itself"):
            double.remote(1)
        del ref
        skate.shutdown()
        skate.init(num_cpus=1)
        assert skate.get(double.remote(1)) == 2


_LIMITED = """
import resource
import skate

def limit(more):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, -1))

@skate.remote
def make():
    return bytes(100_000_000)

skate.init(num_cpus=1)
made = make.remote()
skate.wait([made])
value = bytes(90_000_000)
limit(30_000_000)
for attempt in (lambda: skate.get(made), lambda: skate.put(value), lambda: make.remote() and skate.get(made)):
    try:
        attempt()
    except MemoryError as error:
        print("MemoryError", error)
assert skate.get(skate.put(3)) == 3
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert len(skate.get(made)) == 100_000_000
assert len(skate.get(skate.put(value))) == 90_000_000
print("usable")
"""


def test_a_driver_under_a_limit_is_usable_again_without_it(tmp_path: Path) -> None:
    """What it has no room to map, it cannot read now; that is all."""
    script = tmp_path / "limited.py"
    script.write_text(_LIMITED)
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["MemoryError", "MemoryError", "MemoryError", "usable"]
    assert "no room to map" in lines[0]
