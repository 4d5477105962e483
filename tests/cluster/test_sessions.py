"""Sessions in a process: many of them, from threads, asyncio, the interpreter's prompt and pytest."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skate
from skate._worker.core import Core
from skate.api import RayContext as Session
from skate.exceptions import RayError

from . import processes
from .waiting import wait_for
from .work import Counter, square, wait_and_return

# ---------------------------------------------------------------------- many sessions


@pytest.mark.time_limit(120)
def test_fifty_sessions_leave_nothing() -> None:
    def grown() -> tuple[int, int, int, int]:
        gc.collect()
        return (
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            sum("skate-" in line for line in Path("/proc/self/maps").read_text().splitlines()),
            sum(isinstance(one, Core) for one in gc.get_objects()),
        )

    def once(i: int) -> None:
        with skate.init(num_cpus=1):
            if i % 5:
                return
            counter = Counter.remote()
            array = skate.get(skate.put(np.full(200_000, i)))
            assert skate.get([square.remote(i), counter.add.remote(i)]) == [i * i, i]
            assert int(array[-1]) == i
        assert not skate.is_initialized()
        assert not processes.of_driver(os.getpid())

    for _ in range(3):
        once(0)
    before = grown()
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    for i in range(50):
        once(i)
    assert grown() == before
    assert len(Path("/proc/self/maps").read_text().splitlines()) < maps + 25


def test_sessions_without_work(session: Session) -> None:
    skate.shutdown()
    for _ in range(5):
        skate.init(num_cpus=1)
        skate.shutdown()
        skate.shutdown()


def test_nothing_runs_any_more_when_shutdown_returns(session: Session, tmp_path: Path) -> None:
    counters = [Counter.remote() for _ in range(3)]
    skate.get([counter.add.remote() for counter in counters])
    refs = [wait_and_return.remote(tmp_path / "never", 1) for _ in range(3)]
    assert len(processes.of_session(session["session_dir"])) >= 6
    skate.shutdown()
    assert processes.of_session(session["session_dir"]) == {}
    for ref in refs:
        with pytest.raises(RayError, match="shut down"):
            skate.get(ref)


def test_the_context(session: Session) -> None:
    assert set(session) >= {"node_id", "session_dir", "address"}
    assert os.stat(session["session_dir"]).st_mode & 0o777 == 0o700
    assert session.address_info["session_dir"] == session["session_dir"]
    nodes = skate.nodes()
    assert len(nodes) == 1
    assert nodes[0]["Alive"] is True
    assert nodes[0]["Resources"]["CPU"] == 2
    assert nodes[0]["NodeID"] == session["node_id"] == skate.get_runtime_context().get_node_id()
    session.disconnect()
    assert not skate.is_initialized()


def test_logs_are_kept_and_the_oldest_swept(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="s") as folder:  # pytest's own is too long for sockets
        _logs_are_kept_and_the_oldest_swept(tmp_path, Path(folder))


def _logs_are_kept_and_the_oldest_swept(tmp_path: Path, temporary: Path) -> None:
    source = """
    import sys
    import skate
    context = skate.init(num_cpus=1, _system_config={"sessions_kept": 2})
    skate.get(skate.remote(print).remote("hello"))
    skate.shutdown()
    print(context["session_dir"])
    """
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(source))
    folders = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=True,
        )
        folders.append(Path(done.stdout.splitlines()[-1]))
    assert all(temporary in folder.parents for folder in folders)
    assert [folder.exists() for folder in folders][-3:] == [True, True, True]
    if tmp_path in folders[0].parents:
        assert not folders[0].exists()
    assert any("hello" in path.read_text() for path in (folders[-1] / "logs").iterdir())
    assert not list(folders[-1].glob("*.sock"))


def test_a_driver_that_ends_without_shutdown(tmp_path: Path) -> None:
    for end, code in (("", 0), ("raise ValueError('my own')", 1), ("sys.exit(3)", 3), ("os._exit(4)", 4)):
        driver = processes.Driver(
            tmp_path,
            f"""
            import os, sys, time
            import skate
            context = skate.init(num_cpus=1)
            Actor = skate.remote(type("Actor", (), {{"work": lambda self: 1}}))
            actor = Actor.remote()
            skate.get(actor.work.remote())
            skate.remote(time.sleep).remote(1000)
            print(context["session_dir"], flush=True)
            {end}
            """,
        )
        done = driver.finish()
        assert done.returncode == code, done.stderr
        assert ("my own" in done.stderr) == (code == 1)
        assert "skate" not in done.stderr
        processes.wait_until_gone(done.stdout.strip())


# ---------------------------------------------------------------------- threads


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def test_threads_submit_and_get(session: Session) -> None:
    def work(thread: int) -> int:
        found = 0
        for i in range(100):
            found += skate.get(square.remote(i))
        refs = [square.remote(i) for i in range(100)]
        while refs:
            ready, refs = skate.wait(refs)
            found += sum(skate.get(ready))
        array = np.full(50_000, thread)
        return found + int(skate.get(skate.put(array))[7])

    once = sum(i * i for i in range(100))
    assert in_threads(8, work) == [2 * once + thread for thread in range(8)]


def test_threads_wait_for_the_same_ref(session: Session, tmp_path: Path) -> None:
    ref = wait_and_return.remote(tmp_path / "go", "there")
    waiting: list[int] = []

    def work(thread: int) -> str:
        waiting.append(thread)
        if thread == 0:
            wait_for(lambda: len(waiting) == 8, "all threads to wait")
            (tmp_path / "go").touch()
        return skate.get(ref)

    assert in_threads(8, work) == ["there"] * 8


def test_threads_start_one_session() -> None:
    assert in_threads(6, lambda i: skate.get(square.remote(i))) == [i * i for i in range(6)]
    assert len({context["session_dir"] for context in [skate.init(ignore_reinit_error=True)]}) == 1
    daemons = [
        1 for argv in processes.of_driver(os.getpid()).values() if "from skate._node." in " ".join(argv)
    ]
    assert len(daemons) == 1


def test_init_and_shutdown_in_a_thread() -> None:
    def work(_: int) -> int:
        skate.init(num_cpus=1)
        found = skate.get(square.remote(5))
        skate.shutdown()
        return found

    assert in_threads(1, work) == [25]


def test_shutdown_ends_the_waits_of_other_threads(session: Session, tmp_path: Path) -> None:
    refs = [wait_and_return.remote(tmp_path / "never", i) for i in range(3)]
    errors: list[Exception] = []

    def work(ref: Any) -> None:
        try:
            skate.get(ref)
        except RayError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    time.sleep(0.05)  # not needed to pass; it makes it likely that they wait already
    skate.shutdown()
    for thread in threads:
        thread.join()
        assert not thread.is_alive()
    assert len(errors) == 3
    assert all("shut down" in str(error) for error in errors)


# ---------------------------------------------------------------------- futures and asyncio


def test_futures(session: Session, tmp_path: Path) -> None:
    futures = [square.remote(i).future() for i in range(50)]
    assert sorted(future.result() for future in as_completed(futures)) == [i * i for i in range(50)]
    late = wait_and_return.remote(tmp_path / "go", "late").future()
    called: list[str] = []
    late.add_done_callback(lambda future: called.append(future.result()))
    # A callback may use the API: it runs on no thread that the runtime needs.
    late.add_done_callback(lambda future: called.append(str(skate.get(square.remote(3)))))
    assert not late.done()
    (tmp_path / "go").touch()
    assert late.result() == "late"
    wait_for(lambda: called == ["late", "9"], "the callbacks")
    large = skate.put(np.ones(100_000)).future().result()
    assert int(large.sum()) == 100_000


def test_asyncio_drivers(session: Session, tmp_path: Path) -> None:
    counter = Counter.remote()

    async def main() -> None:
        assert await square.remote(3) == 9
        assert await asyncio.gather(*[square.remote(i) for i in range(200)]) == [i * i for i in range(200)]
        assert await asyncio.gather(*[counter.add.remote() for _ in range(100)]) == list(range(1, 101))
        ref = wait_and_return.remote(tmp_path / "go", "late")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(awaited(ref)), 0.05)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticker = asyncio.ensure_future(tick())
        waiting = asyncio.ensure_future(awaited(ref))
        while ticks < 10:  # the loop turns while the ref is awaited
            await asyncio.sleep(0.001)
        assert not waiting.done()
        (tmp_path / "go").touch()
        assert await waiting == "late"
        ticker.cancel()
        # The blocking calls work inside a running loop too, as in a notebook.
        assert skate.get(square.remote(4)) == 16
        assert skate.wait([ref]) == ([ref], [])

    async def awaited(ref: Any) -> Any:
        return await ref

    asyncio.run(main())
    asyncio.run(awaited(square.remote(2)))


def test_a_loop_that_ends_before_its_refs(session: Session, tmp_path: Path) -> None:
    ref = wait_and_return.remote(tmp_path / "go", 5)

    async def give_up() -> None:
        future = ref.as_future()
        await asyncio.wait([future], timeout=0.01)

    asyncio.run(give_up())
    (tmp_path / "go").touch()
    assert skate.get(ref) == 5


def test_loops_in_several_threads(session: Session) -> None:
    async def main(n: int) -> int:
        return sum(await asyncio.gather(*[square.remote(i) for i in range(n)]))

    assert in_threads(4, lambda i: asyncio.run(main(50))) == [sum(i * i for i in range(50))] * 4


# ---------------------------------------------------------------------- programs


def test_programs_without_a_file(tmp_path: Path) -> None:
    source = textwrap.dedent(
        """
        import skate
        def offset():
            return 1
        class Thing:
            pass
        @skate.remote
        def work(x, thing):
            assert isinstance(thing, Thing)
            return x * 2 + offset()
        print(skate.get(work.remote(3, Thing())))
        """
    )
    for arguments, given in (([sys.executable, "-c", source], ""), ([sys.executable, "-"], source)):
        done = subprocess.run(
            arguments, input=given, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert (done.stdout, done.stderr) == ("7\n", "")


def test_the_interpreters_prompt(tmp_path: Path) -> None:
    typed = """
import skate
@skate.remote
def work(x):
    return x * 2 + offset

offset = 1
skate.get(work.remote(3))
"""
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=typed,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == "7\n", done.stderr


def test_a_program_run_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "helper.py").write_text("def triple(x): return 3 * x\n")
    (tmp_path / "package" / "__main__.py").write_text(
        "import skate\nfrom package.helper import triple\n"
        "print(skate.get([skate.remote(triple).remote(2), skate.remote(lambda x: triple(x)).remote(3)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "package"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("[6, 9]\n", "")


def test_pytest_in_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import pytest
            import skate

            def helper(x):
                return x + 1

            @pytest.fixture(scope="module")
            def runtime():
                with skate.init(num_cpus=1):
                    yield

            @skate.remote
            def work(x):
                return helper(x)

            @pytest.mark.parametrize("x", range(5))
            def test_work(runtime, x):
                assert skate.get(work.remote(x)) == x + 1

            def test_output(runtime, capfd):
                skate.get(skate.remote(print).remote("hello"))

            def test_fails(runtime):
                assert skate.get(work.remote(1)) == 1

            def test_without_fixture_after_it():
                skate.shutdown()
                assert skate.get(work.remote(1)) == 2
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "1 failed, 7 passed" in done.stdout, done.stdout + done.stderr


def test_two_drivers_do_not_meet(tmp_path: Path) -> None:
    source = """
    import os, sys, time
    import skate
    context = skate.init(num_cpus=1, namespace="same")
    Actor = skate.remote(type("Actor", (), {"pid": lambda self: os.getpid(), "mine": lambda self: sys.argv[1]}))
    actor = Actor.options(name="same").remote()
    assert skate.get(actor.pid.remote()) != os.getpid()
    open(sys.argv[1], "w").close()
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    fib = skate.remote(lambda n: n if n < 2 else sum(skate.get([fib.remote(n - 1), fib.remote(n - 2)])))
    print(skate.get(fib.remote(6)), len(skate.nodes()), context["session_dir"])
    """
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    marks = [tmp_path / "mark-a", tmp_path / "mark-b"]
    drivers = [processes.Driver(folders[i], source, marks[i], marks[1 - i]) for i in range(2)]
    lines = [driver.finish() for driver in drivers]
    assert all(done.returncode == 0 for done in lines), lines
    said = [done.stdout.split() for done in lines]
    assert [words[:2] for words in said] == [["8", "1"], ["8", "1"]]
    assert said[0][2] != said[1][2]


def test_import_is_light(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, skate; print(sorted({'numpy', 'asyncio', 'pandas'} & set(sys.modules)))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_ray_program(tmp_path: Path) -> None:
    done = processes.run_driver(
        tmp_path,
        """
        import skate as ray

        ray.init(num_cpus=2, include_dashboard=False, logging_level="error", _system_config={"x": 1})

        @ray.remote
        def f(x):
            return x * x

        @ray.remote
        class Counter:
            def __init__(self):
                self.n = 0
            def increment(self):
                self.n += 1
            def read(self):
                return self.n

        futures = [f.remote(i) for i in range(4)]
        print(ray.get(futures))
        counters = [Counter.remote() for i in range(4)]
        [c.increment.remote() for c in counters]
        futures = [c.read.remote() for c in counters]
        print(ray.get(futures))
        try:
            ray.get(f.remote("x"))
        except ray.exceptions.RayTaskError as error:
            print(type(error.cause).__name__)
        """,
    )
    assert done.stdout == "[0, 1, 4, 9]\n[1, 1, 1, 1]\nTypeError\n"
    assert done.stderr == ""


def test_a_ray_cluster_gets_what_init_says_of_its_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    from skate._on_ray.session import RayDriver

    given: dict[str, object] = {}

    def refuse(address: str | None, **arguments: object) -> None:
        given.update(arguments)
        raise ConnectionError("no cluster here")

    monkeypatch.setattr(RayDriver, "start", refuse)
    with pytest.raises(ConnectionError, match="no cluster here"):
        skate.init("ray", include_dashboard=False)
    assert given["include_dashboard"] is False
