"""tqdm_ray: bars of workers become lines, lines become bars."""

from __future__ import annotations

import inspect
import io
import json
from typing import Any

import pytest

import skate
from skate._launch import connect
from skate.experimental import tqdm_ray
from skate.experimental._bars import BarManager, text


class Terminal(io.StringIO):
    """Shows what a terminal would, of what bars need: up, clear to the end, lines."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines: list[str] = [""]
        row = 0
        for piece in self.getvalue().split("\x1b["):
            if piece.startswith("J"):
                lines[row:] = [""]
                piece = piece[1:]
            elif piece[:1].isdigit() and "A" in piece:
                count, _, piece = piece.partition("A")
                row -= int(count)
            for part in piece.splitlines(keepends=True):
                lines[row] += part.rstrip("\n")
                if part.endswith("\n"):
                    row += 1
                    lines[row:] = [""]
        return lines[:-1] if lines[-1] == "" else lines


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def state(id: str, n: int = 0, closed: bool = False, **more: Any) -> dict[str, Any]:
    base = {"id": id, "desc": id, "n": n, "total": 10, "unit": "it", "position": 0,
            "elapsed": 2.0, "pid": 7, "closed": closed}  # fmt: skip
    return {**base, **more}


def names(screen: list[str]) -> list[str]:
    return [line.split()[0] for line in screen]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(terminal: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> BarManager:
    made = BarManager(terminal, clock)
    monkeypatch.setattr(tqdm_ray._Process, "manager", made)
    return made


def test_a_bar() -> None:
    line = text(state("load", 4), 80)
    assert line.startswith("load (pid=7)  40% ")
    assert line.endswith(" 4/10 [00:02<00:03, 2 it/s]")
    assert len(line) == 79
    assert round(line.count("█") / (line.count("█") + line.count("·")), 1) == 0.4


@pytest.mark.parametrize("width", [5, 20, 40, 200])
@pytest.mark.parametrize("n", [0, 5, 10, 15])
@pytest.mark.parametrize("total", [None, 0, 10])
def test_a_bar_fits_the_terminal(width: int, n: int, total: int | None) -> None:
    line = text(state("load", n, total=total, elapsed=0.0), width)
    assert len(line) < width
    assert "\n" not in line


def test_long_times() -> None:
    assert "1:00:00<" in text(state("load", 5, elapsed=3600), 80)


def test_bars_side_by_side(manager: BarManager, terminal: Terminal) -> None:
    for update in (state("a"), state("b"), state("a", 5), state("c"), state("b", 9)):
        manager.process_state_update(update)
    assert names(terminal.screen()) == ["a", "b", "c"]
    assert "50%" in terminal.screen()[0]
    assert "90%" in terminal.screen()[1]


def test_positions(manager: BarManager, terminal: Terminal) -> None:
    for update in (state("last", position=2), state("first", position=1)):
        manager.process_state_update(update)
    assert names(terminal.screen()) == ["first", "last"]


def test_a_finished_bar_stays_above(manager: BarManager, terminal: Terminal) -> None:
    for update in (state("a"), state("b"), state("b", 10, True), state("a", 1), state("c")):
        manager.process_state_update(update)
    assert names(terminal.screen()) == ["b", "a", "c"]
    assert "100%" in terminal.screen()[0]


def test_other_output_appears_above(
    manager: BarManager, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.process_state_update(state("a"))
    tqdm_ray.safe_print("hello", file=terminal)
    assert names(terminal.screen()) == ["hello", "a"]
    manager.hide_bars()
    manager.process_state_update(state("a", 7))
    assert names(terminal.screen()) == ["hello"]
    manager.unhide_bars()
    assert "70%" in terminal.screen()[1]


def test_bars_of_the_dead_disappear(manager: BarManager, terminal: Terminal, clock: Clock) -> None:
    manager.process_state_update(state("dead"))
    clock.now = 10_000
    manager.process_state_update(state("a"))
    assert names(terminal.screen()) == ["a"]


def test_lines_where_there_is_no_terminal(clock: Clock) -> None:
    out = io.StringIO()
    manager = BarManager(out, clock)
    for n in range(4):
        manager.process_state_update(state("a", n))
    clock.now = 11.0
    manager.process_state_update(state("a", 5))
    manager.process_state_update(state("a", 10, True))
    lines = out.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["0%", "50%", "100%"]
    assert "\x1b" not in out.getvalue()


def test_output_that_was_closed_is_no_error(terminal: Terminal) -> None:
    manager = BarManager(terminal)
    terminal.close()
    manager.process_state_update(state("a"))


def test_lines_of_workers(manager: BarManager, terminal: Terminal) -> None:
    lines = f"before\npart{tqdm_ray.MARK}{json.dumps(state('a', 5))}\nafter\n"
    tqdm_ray.show(lines, terminal, "(work pid=7) ")
    assert names(terminal.screen()) == ["(work", "(work", "(work", "a"]
    assert [line[13:] for line in terminal.screen()[:3]] == ["before", "part", "after"]


@pytest.mark.parametrize("rest", ["no json", "{}", "[]", '{"id": "a", "closed": false}'])
def test_lines_of_others(manager: BarManager, terminal: Terminal, rest: str) -> None:
    line = f"{tqdm_ray.MARK}{rest}\n"
    assert tqdm_ray.take(line) == line
    manager.process_state_update(state("a"))
    assert names(terminal.screen()) == ["a"]


def test_in_the_driver(manager: BarManager, terminal: Terminal) -> None:
    bar = tqdm_ray.tqdm(range(4), desc="mine", unit="file", flush_interval_s=0)
    assert bar.total == 4
    assert list(bar) == [0, 1, 2, 3]
    assert bar.n == 4
    [line] = terminal.screen()
    assert line.startswith("mine (pid=")
    assert "4/4" in line


def test_by_hand(manager: BarManager, terminal: Terminal) -> None:
    with tqdm_ray.tqdm(total=10, desc="a") as bar:
        bar.update(3)
        assert "0/10" in terminal.screen()[0]
        bar.set_description("b")
        bar.refresh()
        assert "3/10" in terminal.screen()[0]
        bar.n = 8
        bar.total = 16
        bar.refresh()
        assert names(terminal.screen()) == ["b"]
        assert "8/16" in terminal.screen()[0]
    bar.close()
    assert len(terminal.screen()) == 1
    with pytest.raises(ValueError, match="iterable"):
        next(iter(bar))


def test_an_iterable_without_length(manager: BarManager, terminal: Terminal) -> None:
    assert list(tqdm_ray.tqdm(iter("abc"))) == ["a", "b", "c"]
    assert "3 it [" in terminal.screen()[0]


def test_from_workers(runtime: None, manager: BarManager, terminal: Terminal) -> None:
    if "tqdm_ray" not in inspect.getsource(connect):
        pytest.skip("the driver does not give worker output to tqdm_ray.show yet")

    @skate.remote
    def work(name: str) -> None:
        for _ in tqdm_ray.tqdm(range(5), desc=name):
            pass

    @skate.remote
    class Actor:
        def __init__(self) -> None:
            self.bar = tqdm_ray.tqdm(total=3, desc="actor")

        def step(self) -> None:
            self.bar.update(3)
            self.bar.close()

    skate.get([work.remote("a"), work.remote("b"), Actor.remote().step.remote()])
    skate.shutdown()  # what they printed is shown now
    screen = terminal.screen()
    assert sorted(names(screen)) == ["a", "actor", "b"]
    assert all("100%" in line for line in screen)
