"""Breakpoints in tasks and actors: at the driver's terminal, by `skate debug`, and beside everything else."""

from __future__ import annotations

import bdb
import json
import os
import pdb
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skate
from skate._base.memory import of_process
from skate.api import RayContext as Session
from skate.util.state import list_tasks, why

from . import processes
from .terminals import Terminal, program
from .waiting import wait_for, wait_for_file

#: A driver: what it calls is its argument.
TASKS = """
import asyncio, os, sys, time
import skate

@skate.remote
def double(x):
    y = x * 2
    breakpoint()
    z = y + 1
    return z

@skate.remote
def loop():
    breakpoint()
    total = 0
    for i in range(5):
        total += i
    return total

@skate.remote
def slow():
    breakpoint()
    time.sleep(3600)
    return "slept"

@skate.remote
def stepped():
    breakpoint()
    end = time.monotonic() + 3600
    while time.monotonic() < end:
        open("spins", "w").close()
    return "spun"

@skate.remote(max_concurrency=2)
class Threads:
    def wait(self, x):
        breakpoint()
        return x

@skate.remote
class Async:
    async def wait(self, x):
        breakpoint()
        await asyncio.sleep(0.05)
        y = x + 1
        return y

    async def other(self):
        return "other"

@skate.remote
class Serial:
    def __init__(self):
        breakpoint()
        self.x = 1

    def get(self):
        return self.x

@skate.remote
def plain():
    return "plain"

skate.init(num_cpus=2)
"""


#: Where ``breakpoint()`` stops: at its own line, or at the next.
AT_ITSELF = sys.version_info >= (3, 13)


@pytest.fixture
def at(tmp_path: Path) -> Any:
    """Start a program that has TASKS on a terminal."""

    def start(body: str, **env: str) -> Terminal:
        return Terminal(program(tmp_path, TASKS + body), env=env)

    return start


def line_of(text: str) -> int:
    return (TASKS.lstrip().splitlines()).index(text) + 1


def test_look_step_and_go_on(at: Any, tmp_path: Path) -> None:
    with at("print('got', skate.get(double.remote(4)))") as terminal:
        first, line = (
            ("breakpoint()", line_of("    y = x * 2") + 1)
            if AT_ITSELF
            else ("z = y + 1", line_of("    z = y + 1"))
        )
        shown = terminal.expect(
            r"\(double pid=(\d+)\) stopped at a breakpoint in (.*)\n> (.*)\n-> (.*)\n\(Pdb\) "
        )
        path = tmp_path / "program.py"
        assert shown[2] == f"{path}:{line}"
        assert shown[3] == f"{path}({line})double()"
        assert shown[4] == first
        if AT_ITSELF:
            line += 1
            terminal.type("n")
            terminal.expect(r"-> z = y \+ 1\n\(Pdb\) ")
        terminal.type("p y")
        terminal.expect(r"\n8\n\(Pdb\) ")
        terminal.type("n")
        terminal.expect(r"-> return z\n\(Pdb\) ")
        terminal.type("import os; os.getpid()")
        terminal.expect(rf"\n{shown[1]}\n\(Pdb\) ")
        terminal.type("w")
        assert terminal.expect(r"(?s)w\n(.*)\n\(Pdb\) ")[1] == f"> {path}({line + 1})double()\n-> return z"
        terminal.type("1 / 0")
        terminal.expect(r"ZeroDivisionError: division by zero\n\(Pdb\) ")
        terminal.type("z = 100")
        terminal.expect(r"\(Pdb\) ")
        terminal.type("n")
        terminal.expect(r"--Return--\n.*->100\n-> return z\n\(Pdb\) ")
        terminal.type("n")  # there is no user code above
        terminal.expect("got 100\n")
        assert terminal.finish() == 0


def test_statements_of_several_lines_and_interact(at: Any) -> None:
    with at("print('got', skate.get(double.remote(4)))") as terminal:
        terminal.expect(r"\(Pdb\) ")
        terminal.type("for i in range(2):")
        terminal.expect(r"\.\.\. +")
        terminal.type("    print('line', i)")
        terminal.expect(r"\.\.\. +")
        terminal.type("")
        terminal.expect(r"line 0\nline 1\n\(Pdb\) ")
        terminal.type("interact")
        terminal.expect(">>> ")
        terminal.type("y + 1000")
        terminal.expect(r"\n1008\n>>> ")
        terminal.press("\x04")
        terminal.expect(r"\*exit from interactive\*\n\(Pdb\) ")
        terminal.type("input('name? ')")
        terminal.expect(r"name\? ")
        terminal.type("fish")
        terminal.expect(r"'fish'\n\(Pdb\) ")
        terminal.type("c")
        terminal.expect("got 9\n")
        assert terminal.finish() == 0


def test_quit_fails_the_task(at: Any) -> None:
    body = """
try:
    skate.get(double.remote(4))
except BaseException as error:
    print(type(error).__name__, '|', str(error).splitlines()[-1], '|', 'bdb.py' in str(error))
print(skate.get(plain.remote()))
"""
    with at(body) as terminal:
        terminal.expect(r"\(Pdb\) ")
        terminal.type("q")
        terminal.expect(
            r"RayTaskError\(BdbQuit\) \| bdb.BdbQuit: the debugger was left with q \| False\nplain\n"
        )
        assert terminal.finish() == 0


def test_end_of_input_lets_it_go_on(at: Any) -> None:
    with at("print('got', skate.get(loop.remote()))") as terminal:
        terminal.expect(r"\(Pdb\) ")
        terminal.type(f"b {line_of('        total += i')}")
        terminal.expect(r"Breakpoint 1 .*\n\(Pdb\) ")
        terminal.type("c")
        terminal.expect(r"\(loop pid=\d+\) stopped at a breakpoint in .*\n(.*\n)*\(Pdb\) ")
        terminal.press("\x04")
        terminal.expect("got 10\n")
        assert terminal.finish() == 0


def test_interrupts(at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the prompt, in a statement that was typed, in the code that goes on; and then at the program."""
    monkeypatch.chdir(tmp_path)
    spins = tmp_path / "spins"
    with at("print('got', skate.get(stepped.remote()))") as terminal:
        terminal.expect(r"\(Pdb\) ")
        terminal.press_until("half a line\x03", r"\n\(Pdb\) ")
        terminal.type("print('asleep'); time.sleep(3600)")
        terminal.expect(r"\nasleep\n")
        terminal.press("\x03")
        terminal.expect(r"KeyboardInterrupt(--)?\n\(Pdb\) ")
        terminal.type(
            "import skate; print('waiting'); skate.get(skate.remote(lambda: time.sleep(3600)).remote())"
        )
        terminal.expect(r"\nwaiting\n")
        terminal.press("\x03")
        terminal.expect(r"KeyboardInterrupt(--)?\n\(Pdb\) ")
        if AT_ITSELF:
            terminal.type("n")
            terminal.expect(r"-> end = .*\n\(Pdb\) ")
        terminal.type("n")
        terminal.expect(r"-> while .*\n\(Pdb\) ")
        terminal.type("until 99999")  # runs
        wait_for_file(spins)
        terminal.press("\x03")
        terminal.expect(r"Interrupted\.\n(.*\n)+\(Pdb\) ")
        spins.unlink()
        terminal.type("c")
        wait_for_file(spins)
        terminal.press("\x03")  # nobody is attached: the program's
        terminal.expect("KeyboardInterrupt")
        assert terminal.finish() == -signal.SIGINT


def test_several_take_turns(at: Any) -> None:
    body = """
refs = [double.remote(1), double.remote(2)]
threads = Threads.remote()
refs += [threads.wait.remote(3), threads.wait.remote(4)]
asynchronous = Async.remote()
refs += [asynchronous.wait.remote(5), asynchronous.other.remote()]
serial = Serial.remote()
refs += [serial.get.remote()]
print('got', skate.get(refs))
"""
    with at(body) as terminal:
        stopped = set()
        for _ in range(6):
            stopped.add(terminal.expect(r"\((\S+) pid=\d+\) stopped at a breakpoint .*\n(.*\n)+?\(Pdb\) ")[1])
            terminal.type("n")
            terminal.expect(r"\n\(Pdb\) ")
            terminal.type("c")
        assert stopped == {"double", "Threads.wait", "Async.wait", "Serial.__init__"}
        terminal.expect(re.escape("got [3, 5, 3, 4, 6, 'other', 1]\n"))
        assert terminal.finish() == 0


def test_the_driver_does_something_else(at: Any) -> None:
    """Its main thread computes; its end ends the task, whoever is attached."""
    body = """
ref = double.remote(1)
while not skate.wait([ref], timeout=0)[0]:
    sum(range(10_000))
print('got', skate.get(ref))
ref = double.remote(2)
from skate.util.state.source import connected
with connected() as state:
    while not state.breakpoints():
        pass
"""
    with at(body) as terminal:
        terminal.expect(r"\(Pdb\) ")
        terminal.type("c")
        terminal.expect("got 3\n")
        assert terminal.finish() == 0


def test_cancelling_and_killing_what_is_stopped(at: Any, tmp_path: Path) -> None:
    body = f"""
ref = double.remote(1)
while not os.path.exists({str(tmp_path / "cancel")!r}):
    pass
skate.cancel(ref)
try:
    skate.get(ref)
except skate.exceptions.TaskCancelledError:
    print('cancelled')
print(skate.get(plain.remote()))
ref = double.remote(2)
print('got', skate.get(ref))
"""
    with at(body) as terminal:
        terminal.expect(r"\(Pdb\) ")
        (tmp_path / "cancel").touch()
        terminal.expect(r"cancelled\n")
        terminal.expect(r"plain\n")
        terminal.expect(r"stopped at a breakpoint(.*\n)+?\(Pdb\) ")
        os.kill(int(re.findall(r"pid=(\d+)", terminal.text)[-1]), signal.SIGKILL)
        terminal.expect(r"stopped at a breakpoint(.*\n)+?\(Pdb\) ")  # its retry
        terminal.type("c")
        terminal.expect(r"got 5\n")
        assert terminal.finish() == 0


def test_an_exception_is_looked_at_where_it_was_raised(at: Any) -> None:
    body = """
@skate.remote
def fail(x):
    y = x * 3
    raise ValueError(f'no {y}')

@skate.remote
def outer():
    return skate.get(fail.remote(2))

try:
    skate.get(outer.remote())
except ValueError as error:
    print('got', error.args)
"""
    with at(body, RAY_DEBUG_POST_MORTEM="1") as terminal:
        terminal.expect(r"\(fail pid=\d+\) stopped at an exception in .*program.py:\d+\nValueError: no 6\n")
        terminal.expect(r"-> raise ValueError\(.*\n\(Pdb\) ")
        terminal.type("p y")
        terminal.expect(r"\n6\n\(Pdb\) ")
        terminal.type("c")
        terminal.expect(r"got \('no 6',\)\n")
        assert terminal.finish() == 0


def test_the_usual_variable_is_honoured(at: Any) -> None:
    with at("print('got', skate.get(double.remote(4)))", PYTHONBREAKPOINT="0") as terminal:
        terminal.expect("got 9\n")
        assert terminal.finish() == 0


def test_by_the_names_of_ray(at: Any) -> None:
    body = """
@skate.remote
def f():
    from skate.util import pdb
    pdb.set_trace()
    skate.util.rpdb.set_trace()
    skate.util.ray_debugpy.set_trace()
    return 'through'
print(skate.get(f.remote()))
"""
    with at(body) as terminal:
        calls = ("pdb.set_trace", "rpdb.set_trace", "ray_debugpy.set_trace", "return 'through'")
        for following in calls[:3] if AT_ITSELF else calls[1:]:
            terminal.expect(rf"-> .*{following}.*\n\(Pdb\) ")
            terminal.type("c")
        terminal.expect("through\n")
        assert terminal.finish() == 0


# ---------------------------------------------------------------------- without a terminal


@skate.remote
def stop(path: Path | None = None) -> str:
    breakpoint()
    if path is not None:
        path.touch()
    return "through"


@skate.remote
def call(ref: list[Any]) -> Any:
    return skate.get(ref[0])


def debug(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    context = skate.get_runtime_context()
    address = os.path.join(context.get_temp_dir(), context.get_session_name())
    return subprocess.run(
        [sys.executable, "-m", "skate", "debug", "--address", address, *arguments],
        input=typed, capture_output=True, text=True,
    )  # fmt: skip


def stopped(count: int = 1) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = json.loads(debug("--json").stdout)
        return found if len(found) == count else None

    wait_for(lambda: look() is not None, f"{count} to stop")
    return look() or []


def test_the_message_says_how_to_attach(session: Session, capfd: pytest.CaptureFixture[str]) -> None:
    assert "No task or actor" in debug().stdout
    ref = stop.remote()
    (row,) = stopped()
    where = f"{__file__}:{_line('if path is not None:') - AT_ITSELF}"
    assert (row["name"], row["where"], row["kind"]) == ("stop", where, "breakpoint")
    message = wait_for(lambda: capfd.readouterr().out, "the message")
    assert message.startswith(f"(stop pid={row['pid']}) stopped at a breakpoint in {where}\n")
    assert message.endswith(f"To attach: skate debug --address {session['session_dir']}\n")
    told = why(ref)
    assert (
        f"it is stopped at a breakpoint in {where} (process {row['pid']}); attach with `skate debug`" in told
    )
    assert [one.is_debugger_paused for one in list_tasks() if one.name == "stop"] == [True]
    done = debug(typed="p path\nc\n")
    assert "None\n" in done.stdout
    assert done.returncode == 0
    assert skate.get(ref) == "through"
    assert [one.is_debugger_paused for one in list_tasks() if one.name == "stop"] == [False]
    assert "waits for: stop" not in told


def _line(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.strip() == text)


def test_the_stacks_say_so(session: Session) -> None:
    ref = stop.remote()
    stopped()
    context = skate.get_runtime_context()
    done = subprocess.run(
        [sys.executable, "-m", "skate", "stack", "--address",
         os.path.join(context.get_temp_dir(), context.get_session_name())],
        capture_output=True, text=True,
    )  # fmt: skip
    line = _line("if path is not None:") - AT_ITSELF
    assert f"== stop, stopped at {__file__}:{line} (attach: skate debug) (pid" in done.stdout
    assert "bdb.py" not in done.stdout
    debug(typed="c\n")
    assert skate.get(ref) == "through"


def test_a_choice_of_several(session: Session) -> None:
    refs = [stop.remote(), stop.remote()]
    stopped(2)
    done = debug()
    assert re.search(r"1 +stop +\d+ +breakpoint .*\n2 +stop", done.stdout)
    assert "skate debug NUMBER" in done.stdout
    assert (debug("7").returncode, "no breakpoint 7" in debug("7").stderr) == (1, True)
    assert debug("2", typed="c\n").returncode == 0
    assert debug(typed="c\n").returncode == 0  # the one that is left
    assert skate.get(refs) == ["through", "through"]


def test_who_vanishes_leaves_it_stopped(session: Session) -> None:
    ref = stop.remote()
    stopped()
    with Terminal("-m", "skate", "debug", "--address", session["session_dir"]) as terminal:
        terminal.expect(r"\(Pdb\) ")
        assert "Another terminal is attached" in debug().stdout
        terminal.process.kill()
        terminal.process.wait()
    # Its end of the socket is closed by now; whoever comes next is attached.
    done = wait_for(
        lambda: (d := debug(typed="c\n")) and "Somebody" not in d.stdout and d, "the end to be seen"
    )
    assert "(Pdb)" in done.stdout
    assert skate.get(ref) == "through"


def test_a_stopped_task_is_no_deadlock_and_can_be_cancelled(session: Session, tmp_path: Path) -> None:
    ref = stop.remote(tmp_path / "through")
    outer = call.remote([ref])
    stopped()
    with pytest.raises(skate.exceptions.GetTimeoutError):
        skate.get(outer, timeout=0.05)
    skate.cancel(ref)
    with pytest.raises(skate.exceptions.TaskCancelledError):
        skate.get(ref)
    with pytest.raises(skate.exceptions.TaskCancelledError):
        skate.get(outer)
    stopped(0)
    assert not (tmp_path / "through").exists()


def test_the_debugger_that_reads_standard_input(session: Session) -> None:
    with pytest.raises(bdb.BdbQuit, match=r"BdbQuit: pdb has no terminal in a worker: write breakpoint\(\)"):
        skate.get(trace.remote())


@skate.remote
def trace() -> None:
    pdb.set_trace()
    print("not reached")


def test_what_is_queued_behind_it_runs_elsewhere(session: Session) -> None:
    """Calls that were sent ahead to the process that stopped."""
    skate.get([quick.remote(0) for _ in range(200)])
    refs = [quick.remote(i) for i in range(300)]
    stopped()
    done = [ref for i, ref in enumerate(refs) if i != 150]
    assert skate.get(done) == [i for i in range(300) if i != 150]
    assert debug(typed="c\n").returncode == 0
    assert skate.get(refs[150]) == 150


@skate.remote
def quick(i: int) -> int:
    if i == 150:
        breakpoint()
    return i


def test_force_and_kill_end_it(session: Session) -> None:
    ref = stop.remote()
    stopped()
    skate.cancel(ref, force=True)
    with pytest.raises(skate.exceptions.TaskCancelledError):
        skate.get(ref)
    actor = Stops.remote()
    ref = actor.stop.remote()
    stopped()
    skate.kill(actor)
    with pytest.raises(skate.exceptions.ActorDiedError):
        skate.get(ref)
    stopped(0)


@skate.remote
class Stops:
    def stop(self) -> None:
        breakpoint()


def test_the_terminal_is_taken_away(tmp_path: Path) -> None:
    """The driver goes on, and so does the task: nobody is left to attach."""
    body = f"""
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
done = skate.get(double.remote(4))
open({str(tmp_path / "done")!r}, 'w').write(str(done))
"""
    with Terminal(program(tmp_path, TASKS + body)) as terminal:
        terminal.expect(r"\(Pdb\) ")
        terminal.hang_up()
        wait_for_file(tmp_path / "done")
        terminal.process.wait()
    assert (tmp_path / "done").read_text() == "9"


def test_a_session_that_stays(tmp_path: Path) -> None:
    """A detached actor that stopped, when its driver left: `skate debug` finds it."""
    done = processes.run_driver(
        tmp_path,
        """
        import skate

        @skate.remote
        class Stays:
            def stop(self):
                breakpoint()
                return "through"

        context = skate.init(num_cpus=1)
        actor = Stays.options(name="stays", lifetime="detached").remote()
        ref = actor.stop.remote()
        import subprocess, sys, json
        command = [sys.executable, "-m", "skate", "debug", "--address", context["session_dir"]]
        while not json.loads(subprocess.check_output([*command, "--json"])):
            pass
        shown = subprocess.run(command, input="c\\n", capture_output=True, text=True).stdout
        print(shown)
        print(skate.get(ref))
        """,
    )
    assert "(Pdb) " in done.stdout
    assert done.stdout.endswith("through\n")


def test_an_interactive_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads its terminal itself: lines go to the breakpoint only while it waits for objects."""
    program(tmp_path, TASKS)
    monkeypatch.chdir(tmp_path)
    with Terminal("-q", env={"PYTHON_BASIC_REPL": "1"}) as terminal:
        terminal.expect(">>> ")
        terminal.type("import sys; sys.path.insert(0, '.')")
        terminal.expect(">>> ")
        terminal.type("from program import *; ref = double.remote(4)")
        terminal.expect(
            r"It prompts here as soon as you wait for it in get\(\)\. To attach elsewhere: skate debug"
        )
        terminal.type("1000 + 1")
        terminal.expect("1001\n>>> ")
        terminal.type("skate.get(ref)")
        terminal.expect(r"\n-> .*\n\(Pdb\) ")
        terminal.press_until("half\x03", r"\(Pdb\) ")
        terminal.type("p y")
        terminal.expect(r"8\n\(Pdb\) ")
        terminal.press("\x04")
        terminal.expect("9\n>>> ")
        terminal.type("exit()")
        assert terminal.finish() == 0


def test_keys_at_skate_debug(session: Session) -> None:
    """Ctrl-C forgets what was typed, and stops a statement; Ctrl-D lets the call go on."""
    ref = stop.remote()
    stopped()
    with Terminal("-m", "skate", "debug", "--address", session["session_dir"]) as terminal:
        terminal.expect(r"\(Pdb\) ")
        terminal.press_until("half a line\x03", r"\n\(Pdb\) ")
        terminal.type("import time; print('asleep'); time.sleep(3600)")
        terminal.expect(r"\nasleep\n")
        terminal.press("\x03")
        terminal.expect(r"KeyboardInterrupt(--)?\n\(Pdb\) ")
        terminal.press("\x04")
        assert terminal.finish() == 0
    assert skate.get(ref) == "through"


def test_memory_that_runs_short_ends_another(tmp_path: Path) -> None:
    """What somebody looks at is spared, though it holds most."""
    # This process counts, and has grown by all tests before.
    limit = of_process(os.getpid()) + 380 * 1024 * 1024
    skate.init(num_cpus=2, _system_config={"memory_limit_bytes": limit, "memory_monitor_refresh_ms": 20})
    held = hold_and_stop.remote(150)
    stopped()
    with pytest.raises(skate.exceptions.OutOfMemoryError):
        skate.get(hold.options(max_retries=0).remote(350))
    assert debug(typed="c\n").returncode == 0
    assert skate.get(held) == 150


@skate.remote(max_retries=0)
def hold_and_stop(megabytes: int) -> int:
    held = b"x" * (megabytes << 20)
    breakpoint()
    return len(held) >> 20


@skate.remote
def hold(megabytes: int) -> int:
    held = b"x" * (megabytes << 20)
    wait_for_file("/nowhere")
    return len(held)
