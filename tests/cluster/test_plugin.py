"""The pytest plugin, in test runs of its own. They name it, since it may or may not be installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from skate.testing.leaks import Living, left_since

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
#: Not by its entry point, if there is one: by its module.
LOADED = ("-p", "skate.testing.plugin", "-p", "no:cacheprovider")


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("SKATE_MODE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def outcome(run: pytest.Pytester, program: str, *arguments: str) -> pytest.RunResult:
    run.makepyfile(program)
    return run.runpytest_subprocess(*LOADED, *arguments)


def test_one_session_serves_many_tests(run: pytest.Pytester) -> None:
    found = outcome(
        run,
        """
        import os
        import skate
        import pytest

        nodes = set()

        @pytest.mark.parametrize("which", range(3))
        def test_it(skate_session, which):
            @skate.remote
            def square(x):
                return x * x, os.getpid()
            value, pid = skate.get(square.remote(which))
            assert (value, pid != os.getpid()) == (which * which, True)
            nodes.add(skate_session["node_id"])

        def test_it_was_one():
            assert len(nodes) == 1
            assert skate.is_initialized()
            assert skate.cluster_resources()["CPU"] == 3
        """,
        "--skate-num-cpus=3",
    )
    found.assert_outcomes(passed=4)


def test_what_is_left_behind_is_named(run: pytest.Pytester) -> None:
    found = outcome(
        run,
        """
        import time
        import skate
        from skate.testing import leaks

        leaks.GRACE = 0.5
        kept = []

        @skate.remote
        class Counter:
            def add(self):
                pass

        def test_actor(skate_session):
            kept.append(Counter.options(name="the counter").remote())
            skate.get(kept[0].add.remote())

        def test_object(skate_session):
            kept.append(skate.put(b"x" * 1000))

        def test_task(skate_session, tmp_path):
            @skate.remote
            def endless(path):
                while not path.exists():
                    time.sleep(0.01)
            kept.append(endless.remote(tmp_path / "end"))

        def test_nothing(skate_session):
            actor = Counter.remote()
            ref = skate.put(actor)
            skate.get([actor.add.remote(), skate.get(ref).add.remote()])

        def test_failed(skate_session):
            ref = skate.put(1)
            assert ref is None
        """,
    )
    # What the failed test holds is held by its report.
    found.assert_outcomes(passed=4, failed=1, errors=3)
    text = found.stdout.str()
    assert (
        "test_actor left behind in the session:\n  actor Counter named 'the counter' (ALIVE), created at"
        in text
    )
    assert "in test_actor" in text
    assert "test_object left behind in the session:\n  object " in text
    assert "in test_object" in text
    assert "  task endless (RUNNING), called at" in text or "  task endless (SUBMITTED_TO_WORKER)" in text
    assert "test_nothing left" not in text
    assert "test_failed left" not in text


def test_a_test_may_end_the_session(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        import skate

        def test_ends(skate_session):
            skate.shutdown()

        def test_gets_a_new_one(skate_session):
            assert skate.get(skate.put(1)) == 1

        def test_kills_it(skate_session):
            import os, pytest, signal
            from pathlib import Path
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            for pid in children:
                os.kill(int(pid), signal.SIGKILL)
            with pytest.raises(skate.exceptions.RaySystemError):
                skate.get(skate.remote(lambda: 1).remote())

        def test_gets_another(skate_session):
            assert skate.get(skate.put(1)) == 1
        """,
    ).assert_outcomes(passed=4)


def test_a_session_for_each_test_in_its_own_process(run: pytest.Pytester) -> None:
    found = outcome(
        run,
        """
        import os
        import skate

        @skate.remote
        def where():
            return os.getpid()

        ids = []

        def test_one(skate_inline):
            assert skate.get(where.remote()) == os.getpid()
            ids.append(skate_inline["node_id"])

        def test_two(skate_inline):
            assert skate.get(where.remote()) == os.getpid()
            assert skate_inline["node_id"] not in ids

        def test_real(skate_session):
            assert skate.get(where.remote()) != os.getpid()

        def test_three(skate_inline):
            assert skate.get(where.remote()) == os.getpid()

        def test_both(skate_inline, skate_session):
            pass

        def test_none():
            assert not skate.is_initialized()
        """,
    )
    found.assert_outcomes(passed=5, errors=1)
    found.stdout.fnmatch_lines(["*a test uses skate_session or skate_inline, not both*"])


@pytest.mark.parametrize("how", ["option", "ini", "environment"])
def test_the_shared_session_may_be_inline(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "ini":
        run.makeini("[pytest]\nskate_mode = inline\nskate_num_cpus = 5\n")
    if how == "environment":
        monkeypatch.setenv("SKATE_MODE", "inline")
    found = outcome(
        run,
        f"""
        import os
        import skate
        from skate.testing import leaks

        leaks.GRACE = 0.1
        kept = []

        def test_it(skate_session):
            pid = skate.remote(os.getpid)
            assert skate.get(pid.remote()) == os.getpid()
            assert skate.cluster_resources()["CPU"] == {5 if how == "ini" else 2}

        def test_leak(skate_session):
            kept.append(skate.put(1))
        """,
        *(["--skate-mode=inline"] if how == "option" else []),
    )
    found.assert_outcomes(passed=2, errors=1)
    found.stdout.fnmatch_lines(["*test_leak left behind in the session:*", "*object *in test_leak*"])


def test_wrong_settings(run: pytest.Pytester) -> None:
    run.makeini("[pytest]\nskate_mode = thread\n")
    found = outcome(run, "def test_it(skate_session):\n    pass\n")
    assert found.ret != 0
    found.stdout.fnmatch_lines(["*skate_mode is one of cluster, inline, not 'thread'*"])


def test_who_does_not_use_it_loads_nothing_of_skate(run: pytest.Pytester) -> None:
    found = outcome(
        run,
        """
        import sys

        def test_it():
            assert sorted(name for name in sys.modules if name.partition(".")[0] == "skate") == [
                "skate", "skate.testing", "skate.testing.plugin"
            ]
        """,
    )
    found.assert_outcomes(passed=1)


def test_skate_does_not_load_pytest() -> None:
    program = "import skate, skate.testing, skate.testing.leaks, sys, json; skate.init; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"pytest", "_pytest"} & set(json.loads(done.stdout))


def test_it_is_declared() -> None:
    assert (
        '[project.entry-points.pytest11]\nskate = "skate.testing.plugin"'
        in (ROOT / "pyproject.toml").read_text()
    )


# ---------------------------------------------------------------------- the look itself


def test_what_goes_in_time_is_no_leak() -> None:
    nothing = Living({}, {}, {})
    looks = [Living({"t": "task t"}, {}, {"o": "object o"}), Living({}, {}, {"o": "object o"}), nothing]
    assert left_since(nothing, objects=True, look=lambda: looks.pop(0)) == []
    assert looks == []
    looks = [Living({}, {}, {"o": "object o"})]
    assert left_since(nothing, objects=False, look=lambda: looks.pop(0)) == []


def test_what_was_there_before_is_no_leak() -> None:
    before = Living({}, {"a": "actor a"}, {})
    assert left_since(before, objects=True, look=lambda: before) == []


def test_many_leaks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from skate.testing import leaks

    monkeypatch.setattr(leaks, "GRACE", -1.0)
    nothing, many = Living({}, {}, {}), Living({}, {}, {str(i): f"object {i}" for i in range(25)})
    lines = left_since(nothing, objects=True, look=lambda: many)
    assert lines[0] == "object 0"
    assert len(lines) == 11
    assert lines[-1] == "... and 15 more of the kind"
