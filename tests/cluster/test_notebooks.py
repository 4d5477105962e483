"""skate in a Jupyter kernel: what a user of a notebook does and sees."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import processes

pytest.importorskip("ipykernel")
pytest.importorskip("jupyter_client")

from .kernels import Kernel


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a session. (Of a scope above that of the leak check: what ZeroMQ opens stays open.)"""
    found = Kernel(tmp_path_factory.mktemp("notebook"))
    try:
        cell = found.run("import asyncio, os, sys, time\nimport skate\ncontext = skate.init(num_cpus=2)")
        assert cell.error == "", cell.traceback
        yield found
    finally:
        found.close()


def test_what_workers_print_is_in_the_cell(kernel: Kernel) -> None:
    cell = kernel.run(
        "@skate.remote\ndef speak(x):\n    print('said', x)\n    print('warned', file=sys.stderr)\n"
        "    return x + 1\nskate.get(speak.remote(1))",
        until=lambda cell: "said" in cell.stdout and "warned" in cell.stderr,
    )
    assert cell.result == "2"
    assert re.fullmatch(r"\(speak pid=\d+\) said 1\n", cell.stdout)
    assert re.fullmatch(r"\(speak pid=\d+\) warned\n", cell.stderr)


def test_and_when_the_cell_is_done(kernel: Kernel) -> None:
    cell = kernel.run(
        "@skate.remote\ndef late():\n    time.sleep(0.1)\n    print('late')\nref = late.remote()",
        until=lambda cell: "late" in cell.stdout,
    )
    assert cell.error == ""


def test_interrupting_a_wait(kernel: Kernel) -> None:
    kernel.run(
        "import pathlib\n@skate.remote\ndef hold(name):\n    print('began', flush=True)\n"
        "    while not os.path.exists(name):\n        time.sleep(0.01)\n    return name\n"
        "first, second = hold.remote('a'), hold.remote('b')"
    )
    for wait in ("skate.get(first)", "skate.wait([first, second])"):  # `await` is up to ipykernel
        # The interrupt is to meet the wait, not the start of the cell.
        cell = kernel.run(
            f"print('waiting', flush=True)\n{wait}", interrupt=lambda cell: "waiting" in cell.stdout
        )
        assert cell.error == "KeyboardInterrupt", cell.traceback
    cell = kernel.run("for name in 'ab': pathlib.Path(name).touch()\nskate.get([first, second])")
    assert cell.result == "['a', 'b']"


def test_what_is_defined_anew_is_what_runs(kernel: Kernel) -> None:
    for version in ("one", "two"):
        cell = kernel.run(
            f"@skate.remote\ndef helped():\n    return help_it()\n\ndef help_it():\n    return '{version}'\n\n"
            f"@skate.remote\nclass Actor:\n    def say(self):\n        return '{version}'\n\n"
            "skate.get([helped.remote(), Actor.remote().say.remote()])"
        )
        assert cell.result == f"['{version}', '{version}']"


def test_top_level_await(kernel: Kernel) -> None:
    cell = kernel.run(
        "@skate.remote\ndef twice(x):\n    return 2 * x\n"
        "await twice.remote(4), await asyncio.gather(*[twice.remote(i) for i in range(3)])"
    )
    assert cell.result == "(8, [0, 2, 4])"
    cell = kernel.run("await asyncio.wait_for(hold.remote('never'), 0.05)")
    assert cell.error == "TimeoutError"
    cell = kernel.run("pathlib.Path('never').touch()\n[skate.get(twice.remote(5))]")
    assert cell.result == "[10]"


def test_starting_twice(kernel: Kernel) -> None:
    cell = kernel.run("skate.init()")
    assert cell.traceback.splitlines()[-1].startswith(
        "RuntimeError: Maybe you called init() twice by accident?"
    )
    assert "pass ignore_reinit_error=True" in cell.traceback
    assert kernel.run("skate.init(ignore_reinit_error=True) == context").result == "True"


def test_the_traceback_is_of_the_cell(kernel: Kernel) -> None:
    kernel.run("@skate.remote\ndef divide(x):\n    y = 0\n    return x / y")
    kernel.run("@skate.remote\ndef ask():\n    return skate.get(divide.remote(1))")
    for wait in ("skate.get(ask.remote())", "await ask.remote()"):
        cell = kernel.run(f"x = 1\n{wait}")
        assert cell.error == "RayTaskError(ZeroDivisionError)"
        shown = re.sub(r"process \d+", "process N", cell.traceback)
        shown = re.sub(r"Cell In\[\d+\]", "Cell In[N]", shown)
        shown = re.sub(r'File "\S+"', "File F", shown)
        shown = re.sub(r"\n +[~^]+(?=\n)", "", shown)  # Python 3.11 and later
        assert shown.splitlines()[2:] == [
            "Cell In[N], line 2",
            "      1 x = 1",
            f"----> 2 {wait}",
            "",
            "RayTaskError(ZeroDivisionError): ask failed in worker process N:",
            "  File F, line 3, in ask",
            "    return skate.get(divide.remote(1))",
            "because divide failed in worker process N:",
            "Traceback (most recent call last):",
            "  File F, line 4, in divide",
            "    return x / y",
            "ZeroDivisionError: division by zero",
        ]


def test_a_breakpoint_asks_in_the_cell(kernel: Kernel) -> None:
    kernel.run("@skate.remote\ndef stop(x):\n    y = x * 2\n    breakpoint()\n    z = y + 1\n    return z")
    at_itself = sys.version_info >= (3, 13)  # breakpoint() stops at its own line, no longer at the next
    typed = ["n"] * at_itself + ["p y", "n", "p z", "c"]
    cell = kernel.run("skate.get(stop.remote(4))", typed=typed)
    assert cell.result == "9"
    assert cell.asked == ["(Pdb) "] * len(typed)
    line, source = (4, r"breakpoint\(\)") if at_itself else (5, r"z = y \+ 1")
    assert re.match(
        rf"\(stop pid=\d+\) stopped at a breakpoint in \S+:{line}\n> \S+\({line}\)stop\(\)\n-> {source}\n",
        cell.stdout,
    )
    assert "\n8\n" in cell.stdout
    assert "-> return z\n9\n" in cell.stdout


def test_a_breakpoint_before_anybody_waits(kernel: Kernel) -> None:
    cell = kernel.run("ref = stop.remote(5)", typed=[], until=lambda cell: "skate debug" in cell.stdout)
    assert "prompts here as soon as you wait for it in get()" in cell.stdout
    cell = kernel.run("skate.get(ref)", typed=["c"])
    assert cell.result == "11"


def test_a_breakpoint_where_nobody_can_be_asked(kernel: Kernel) -> None:
    cell = kernel.run("ref = stop.remote(6)", until=lambda cell: "skate debug" in cell.stdout)
    found = re.search(r"To attach: skate debug --address (\S+)", cell.stdout)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-m", "skate", "debug", "--address", found[1]],
        input="p x\nc\n", capture_output=True, text=True,
    )  # fmt: skip
    assert "(Pdb) 6\n" in done.stdout
    assert kernel.run("skate.get(ref)").result == "13"


def test_the_debuggers_of_ipython(kernel: Kernel) -> None:
    """In the driver everything is as it was."""
    cell = kernel.run(
        "import pdb\ndef f():\n    x = 5\n    pdb.set_trace()\n    return x\nf()", typed=["p x", "c"]
    )
    assert (cell.result, cell.asked) == ("5", ["ipdb> "] * 2)
    kernel.run("def fail():\n    local = 17\n    skate.get(divide.remote(local))\nfail()")
    cell = kernel.run("%debug", typed=["u", "p local", "q"])
    assert "17\n" in cell.stdout


def test_bars(kernel: Kernel) -> None:
    cell = kernel.run(
        "from skate.experimental import tqdm_ray\n@skate.remote\ndef bar():\n"
        "    for _ in tqdm_ray.tqdm(range(5), desc='rows'):\n        pass\nskate.get(bar.remote())",
        until=lambda cell: "5/5" in cell.stderr,
    )
    lines = cell.stderr.splitlines()
    assert len(lines) <= 3
    assert "rows" in lines[-1] and "100%" in lines[-1]
    assert "\r" not in cell.stderr and "\x1b" not in cell.stderr


def test_a_restart_leaves_nothing(kernel: Kernel) -> None:
    """And neither does the end of the kernel, however it ends."""
    for end in ("restart", "kill"):
        cell = kernel.run(
            "import skate\nif not skate.is_initialized(): context = skate.init(num_cpus=1)\n"
            "@skate.remote\nclass Actor:\n    def hello(self): return 'hello'\n"
            "actor = Actor.remote()\nprint(skate.get(actor.hello.remote()))\nprint(context['session_dir'])"
        )
        assert cell.error == "", cell.traceback
        hello, session = cell.stdout.split()
        assert hello == "hello"
        assert processes.of_session(session)
        if end == "kill":
            os.kill(kernel.pid, signal.SIGKILL)
        else:
            kernel.restart()
        processes.wait_until_gone(session)


def test_a_notebook_as_a_file(tmp_path: Path) -> None:
    """As `jupyter execute` and nbclient run one: nobody is there to be asked."""
    notebook = {
        "cells": [
            {"cell_type": "code", "id": f"c{i}", "metadata": {}, "outputs": [], "execution_count": None,
             "source": source}
            for i, source in enumerate(
                ["import skate\n@skate.remote\ndef f(x):\n    return x * 2",
                 "skate.get([f.remote(i) for i in range(3)])",
                 "skate.shutdown()"]
            )
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    file = tmp_path / "notebook.ipynb"
    file.write_text(json.dumps(notebook))
    program = (
        "import nbclient, nbformat, sys\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "nbclient.NotebookClient(notebook, timeout=3600).execute()\n"
        "nbformat.write(notebook, sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=True, capture_output=True, timeout=28)
    cells = json.loads(file.read_text())["cells"]
    assert cells[1]["outputs"][0]["data"]["text/plain"] in ("[0, 2, 4]", ["[0, 2, 4]"])
