"""What workers print appears at the driver, with a prefix that says whose it is."""

from __future__ import annotations

import re
import sys

import pytest
import ray
from ray.experimental import tqdm_ray

from compat.conformance.helpers import needs_processes, until

pytestmark = [needs_processes, pytest.mark.usefixtures("session")]


class Screen:
    """What the driver has shown so far, without colours."""

    def __init__(self, capfd):
        self.capfd = capfd
        self.out = self.err = ""

    def read(self) -> Screen:
        out, err = self.capfd.readouterr()
        self.out += re.sub(r"\x1b\[\d+m", "", out)
        self.err += re.sub(r"\x1b\[\d+m", "", err)
        return self


@pytest.fixture
def screen(capfd):
    return Screen(capfd)


@ray.remote
def shout(text):
    print(text)


@ray.remote
class Speaker:
    def say(self, text):
        print(text)

    def complain(self, text):
        print(text, file=sys.stderr)


class Bob:
    def __repr__(self):
        return "Bob"

    def say(self, text):
        print(text)


def test_what_a_task_prints(screen) -> None:
    ray.get(shout.remote("printed by a task"))
    until(lambda: re.search(r"\(shout pid=\d+\) printed by a task\n", screen.read().out), "the line")


def test_what_an_actor_prints(screen) -> None:
    speaker = Speaker.remote()
    ray.get(speaker.say.remote("printed by an actor"))
    until(lambda: re.search(r"\(Speaker pid=\d+\) printed by an actor\n", screen.read().out), "the line")


def test_standard_error(screen) -> None:
    speaker = Speaker.remote()
    ray.get(speaker.complain.remote("a complaint"))
    until(lambda: re.search(r"\(Speaker pid=\d+\) a complaint\n", screen.read().err), "the line")


def test_an_actor_is_called_by_its_repr(screen) -> None:
    bob = ray.remote(Bob).remote()
    ray.get(bob.say.remote("printed by Bob"))
    until(lambda: re.search(r"\(Bob pid=\d+\) printed by Bob\n", screen.read().out), "the line")


def test_lines_keep_their_order(screen) -> None:
    speaker = Speaker.remote()
    ray.get([speaker.say.remote(f"line {i} of ten") for i in range(10)])
    until(lambda: "line 9 of ten" in screen.read().out, "the last line")
    assert re.findall(r"line (\d) of ten", screen.out) == list("0123456789")


def test_what_ends_without_a_line_feed(screen) -> None:
    @ray.remote
    def unfinished():
        sys.stdout.write("no line feed")
        sys.stdout.flush()

    ray.get(unfinished.remote())
    ray.get(shout.remote("and another line"))
    until(lambda: "no line feed" in screen.read().out, "the text")


# ---------------------------------------------------------------------- errors that nobody asks for


def test_a_progress_bar(screen) -> None:
    @ray.remote
    def walk(steps):
        bar = tqdm_ray.tqdm(total=steps, desc="walk", unit="step", flush_interval_s=0)
        for _ in range(steps):
            bar.update(1)
        bar.close()

    def shown():
        return re.search(r"\(pid=\d+\) *walk|walk \(pid=\d+\)", screen.read().err)

    ray.get(walk.remote(4))
    until(lambda: shown() and re.search(r"100%.*4.*/4", screen.err), "the bar, from its task to its end")
    assert "skate-bar" not in screen.out + screen.err


def test_a_progress_bar_of_the_driver(screen) -> None:
    bar = tqdm_ray.tqdm(range(3), desc="here", flush_interval_s=0)
    assert list(bar) == [0, 1, 2]
    bar.close()
    until(lambda: re.search(r"here.*100%.*3.*/3", screen.read().err), "the bar")


def test_an_error_that_nobody_asks_for(screen, caplog) -> None:
    @ray.remote
    def fail():
        raise ValueError("nobody asks")

    fail.remote()
    until(lambda: "ValueError: nobody asks" in screen.read().err + caplog.text, "the error")


def test_a_constructor_that_fails_is_told_of(screen) -> None:
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("nobody calls")

    broken = Broken.remote()
    until(lambda: "ValueError: nobody calls" in screen.read().err, "the error")
    del broken
