"""What options that ask for resources mean, exactly; and where calls are known by their options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.util import state

from .waiting import meet, wait_for, wait_for_file

GIB = 2**30


@pytest.fixture(autouse=True)
def session(leak_check: None) -> Iterator[None]:
    skate.init(num_cpus=4, resources={"license": 1}, object_store_memory=64 << 20)
    yield
    skate.shutdown()


def node_has(name: str) -> float:
    return skate.cluster_resources()[name]


@skate.remote
def hold(go: Path, began: Path) -> dict[str, float]:
    began.touch()
    wait_for_file(go)
    return skate.get_runtime_context().get_assigned_resources()


@skate.remote
class Holder:
    def assigned(self) -> dict[str, float]:
        return skate.get_runtime_context().get_assigned_resources()


def second_waits(tmp_path: Path, **options: Any) -> dict[str, float]:
    """Check that of two tasks with these options one waits for the other; return what they held."""
    go = tmp_path / "go"
    first = hold.options(**options).remote(go, tmp_path / "one")
    wait_for_file(tmp_path / "one")
    second = hold.options(**options).remote(go, tmp_path / "two")
    wait_for(
        lambda: (
            [row.state for row in state.list_tasks(filters=[("name", "=", "hold")])]
            == ["RUNNING", "PENDING_NODE_ASSIGNMENT"]
        ),
        "the second to be queued",
    )
    # One that asks for nothing of it is not held up, and shows that there was time to begin the second.
    assert skate.get(hold.options(num_cpus=0).remote(tmp_path / "one", tmp_path / "three")) == {}
    assert not (tmp_path / "two").exists()
    go.touch()
    held, again = skate.get([first, second])
    assert held == again
    return dict(held)


def test_memory_is_a_resource_to_schedule_by(tmp_path: Path) -> None:
    need = int(node_has("memory") * 0.6)
    assert second_waits(tmp_path, num_cpus=0, memory=need) == {"memory": need}


def test_nobody_enforces_memory() -> None:
    @skate.remote(memory=1)
    def uses_more() -> int:
        return len(bytearray(50 << 20))

    assert skate.get(uses_more.remote()) == 50 << 20


def test_object_store_memory_is_a_resource_to_schedule_by(tmp_path: Path) -> None:
    held = second_waits(tmp_path, num_cpus=0, object_store_memory=40 << 20)
    assert held == {"object_store_memory": 40 << 20}
    actor = Holder.options(num_cpus=0, object_store_memory=1 << 20).remote()
    assert skate.get(actor.assigned.remote()) == {"object_store_memory": 1 << 20}


def test_resources_of_your_own(tmp_path: Path) -> None:
    assert second_waits(tmp_path, num_cpus=0, resources={"license": 0.6}) == {"license": 0.6}


def test_fractions_of_a_cpu_run_side_by_side(tmp_path: Path) -> None:
    together = skate.remote(num_cpus=0.5)(meet)
    assert skate.get([together.remote(tmp_path, n, 8) for n in range(8)]) == [8] * 8


def test_a_task_takes_one_cpu_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert second_waits(tmp_path, num_cpus=3) == {"CPU": 3.0}
    assert skate.get(hold.remote(tmp_path / "go", tmp_path / "x")) == {"CPU": 1.0}


def test_what_an_actor_holds() -> None:
    plain, explicit = Holder.remote(), Holder.options(num_cpus=0.5, memory=GIB).remote()
    assert skate.get(plain.assigned.remote()) == {}
    assert skate.get(explicit.assigned.remote()) == {"CPU": 0.5, "memory": GIB}
    only_memory = Holder.options(memory=GIB).remote()
    assert skate.get(only_memory.assigned.remote()) == {"CPU": 1.0, "memory": GIB}


def test_more_than_there_is_waits_with_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    ref = hold.options(memory=int(node_has("memory") * 2)).remote(Path("a"), Path("b"))
    told = ""

    def warned() -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return "task hold: it needs" in told

    wait_for(warned, "the warning")
    assert skate.wait([ref], timeout=0) == ([], [ref])
    skate.cancel(ref)


def test_options_that_name_a_resource_of_another_option() -> None:
    for name, option in (
        ("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory"), ("object_store_memory", "object_store_memory")
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"'{name}' is the option '{option}'"):
            hold.options(resources={name: 1})
    for name in ("memory", "object_store_memory", "num_cpus"):
        with pytest.raises(
            ValueError,
            match=f"quantity of resource {name} cannot be negative|option '{name}' takes a finite number",
        ):
            hold.options(**{name: -1})
        with pytest.raises(TypeError, match=f"keyword '{name}' must be a number"):
            hold.options(**{name: "1"})


def test_a_task_is_known_by_its_name() -> None:
    @skate.remote
    def who() -> tuple[str | None, str | None]:
        context = skate.get_runtime_context()
        return context.get_task_name(), context.get_task_function_name()

    assert skate.get(who.options(name="mine").remote())[0] == "mine"
    assert skate.get(who.remote())[0] == "who"
    assert {row.name for row in state.list_tasks()} == {"mine", "who"}
