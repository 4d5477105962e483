"""No thread can be started: the system has no more, or Python refuses because the program is ending (3.12).

Whatever needed one says so, nothing waits for it for ever, and afterwards all goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.exceptions import RaySystemError
from skate.util import state
from skate.util.multiprocessing import Pool

from . import processes

REFUSED = "Python cannot start the thread {} that skate needs: can't start new thread. See `ulimit -u`."


@contextmanager
def no_threads() -> Iterator[None]:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


@skate.remote
def talk() -> int:
    print("said")
    return 1


@skate.remote
class Talker:
    def talk(self) -> int:
        return 1


def test_init_says_so_and_can_be_repeated() -> None:
    with no_threads(), pytest.raises(RuntimeError) as caught:
        skate.init(num_cpus=1)
    assert str(caught.value) == REFUSED.format("skate-io")
    assert not skate.is_initialized()
    skate.init(num_cpus=1)
    assert skate.get(talk.remote()) == 1


def test_output_is_shown_in_the_end(session: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with no_threads():
        assert skate.get(talk.remote()) == 1
        skate.shutdown()
    shown = capfd.readouterr()
    assert shown.out.startswith("(talk pid=")
    assert shown.out.endswith(") said\n")
    assert shown.err == ""


def test_a_question_about_the_state_has_an_answer(session: Any, capfd: pytest.CaptureFixture[str]) -> None:
    ref = talk.remote()
    assert skate.get(ref) == 1
    with no_threads():
        assert state.list_tasks() == []  # the driver cannot say
    assert "internal error" not in capfd.readouterr().err
    assert [task.name for task in state.list_tasks()] == ["talk"]


def test_a_pool_says_so_and_goes_on(session: Any) -> None:
    with Pool(1) as pool:
        with no_threads(), pytest.raises(RuntimeError, match="skate-pool"):
            pool.map_async(abs, [-1], callback=print)
        assert pool.map_async(abs, [-2]).get() == [2]


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 2}])
def test_in_process_mode_says_so(options: dict[str, Any]) -> None:
    skate.init(mode="inline")
    talker = Talker.options(**options).remote()  # type: ignore[attr-defined]
    with no_threads():
        refs = [talk.remote()]
        if options:
            refs += [talker.talk.remote(), talker.talk.remote()]
        late = Talker.remote()
        for ref in refs:
            with pytest.raises(RaySystemError, match=r"talk was not run: Python cannot start the thread"):
                skate.get(ref)
        with pytest.raises(skate.exceptions.ActorDiedError, match="Talker was not started: Python cannot"):
            skate.get(late.talk.remote())
    assert skate.get([talk.remote(), talker.talk.remote(), Talker.remote().talk.remote()]) == [1, 1, 1]


@pytest.mark.parametrize("mode", ["", "mode='inline'"])
def test_functions_of_atexit(tmp_path: Path, mode: str) -> None:
    done = processes.run_driver(
        tmp_path,
        f"""
        import atexit, skate

        @skate.remote
        def talk():
            print("said")

        def late():
            try:
                skate.get(talk.remote())
            except skate.exceptions.RaySystemError as error:
                print(error)

        skate.init({mode})
        atexit.register(late)
        """,
    )
    assert done.stderr == ""
    refused = "talk was not run: Python cannot start the thread" in done.stdout
    assert done.stdout.endswith("said\n") or (mode and refused)
