"""`skate run` and `skate.compat`: programs that say ``import ray``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(
    folder: Path,
    source: str,
    *arguments: str,
    command: tuple[str, ...] = ("-m", "skate", "run"),
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, *command, *(["program.py"] if command[-1:] != ("-m",) else []), *arguments],
        capture_output=True, text=True, cwd=folder, env={**os.environ, **(environment or {})},
    )  # fmt: skip


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_modules_are_ours(tmp_path: Path) -> None:
    source = """
    import ray, sys
    import ray.util.queue
    from ray.util import ActorPool
    import ray.exceptions as errors
    import skate, skate.exceptions, skate.util.actor_pool
    print(ray.get is skate.get, errors is skate.exceptions, ActorPool is skate.util.actor_pool.ActorPool)
    print(skate.__spec__.name, skate.exceptions.__spec__.name, ray.util.actor_pool.__name__, ray.__name__)
    """
    assert printed(run(tmp_path, source)).split() == [
        *["True"] * 3, "skate", "skate.exceptions", "skate.util.actor_pool", "ray"
    ]  # fmt: skip


def test_workers_say_import_ray_too(tmp_path: Path) -> None:
    source = """
    import ray

    @ray.remote
    def inner():
        import ray
        from ray.exceptions import GetTimeoutError
        return ray.__name__, GetTimeoutError.__module__

    @ray.remote
    class Actor:
        def call(self):
            import ray.util.queue
            return ray.get(inner.remote())

    print(ray.get(Actor.remote().call.remote()))
    """
    assert printed(run(tmp_path, source)) == "('ray', 'ray.exceptions')\n"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "import ray.train.torch")
    assert done.returncode == 1
    assert "ModuleNotFoundError: skate has no train (yet)" in done.stderr
    done = run(tmp_path, "import ray._private.gcs_utils")
    assert "ModuleNotFoundError: skate has no _private.gcs_utils (yet)" in done.stderr
    source = """
    try:
        from ray import tune
    except ImportError as error:
        print(error)
    """
    assert printed(run(tmp_path, source)).startswith("skate has no tune (yet): this program runs on skate")
    source = """
    import importlib.util, ray
    print([importlib.util.find_spec(name) is None for name in ("ray.tune", "ray.util.queue")])
    print(hasattr(ray, "tune"), hasattr(ray, "get"))
    """
    assert printed(run(tmp_path, source)) == "[True, False]\nFalse True\n"
    done = run(tmp_path, "import ray; ray.tune.run(3)")
    assert (
        "AttributeError: skate has no tune (yet): ray.tune is a part of Ray that skate lacks" in done.stderr
    )


def test_arguments_path_and_main(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("value = 17")
    source = """
    import sys, ray, beside
    if __name__ == "__main__":
        print(sys.argv, beside.value, __file__)

        @ray.remote
        def here():
            return __name__

        print(ray.get(here.remote()))
    """
    out = printed(run(tmp_path, source, "-x", "--flag", "value"))
    assert out.splitlines() == [
        f"['program.py', '-x', '--flag', 'value'] 17 {tmp_path / 'program.py'}",
        "__main__",
    ]


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("sys.exit('sorry')", 1), ("pass", 0)])
def test_exit_codes(tmp_path: Path, end: str, code: int) -> None:
    assert run(tmp_path, f"import ray, sys\n{end}").returncode == code


def test_tracebacks_begin_in_the_program(tmp_path: Path) -> None:
    done = run(tmp_path, "import ray\ndef f():\n    1 / 0\nf()")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Traceback")
    assert "program.py" in lines[1]
    assert "skate" not in done.stderr
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_what_cannot_be_compiled(tmp_path: Path) -> None:
    done = run(tmp_path, "import ray\nx = (1,\n")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f'  File "{tmp_path / "program.py"}", line 2'
    assert done.stderr.splitlines()[-1] == "SyntaxError: '(' was never closed"


def test_a_folder_with_a_main_module(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text("import ray; print(ray.__name__, __name__)")
    done = subprocess.run(
        [sys.executable, "-m", "skate", "run", "package"], capture_output=True, text=True, cwd=tmp_path
    )
    assert printed(done) == "ray __main__\n"


def test_no_such_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "skate", "run", "nowhere.py"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no file 'nowhere.py'" in done.stderr


def test_modules_and_pytest(tmp_path: Path) -> None:
    source = """
    import ray

    @ray.remote
    def square(x):
        return x * x

    def test_square():
        assert ray.get(square.remote(3)) == 9
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
    out = printed(run(tmp_path, "", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py",
                      command=("-m", "skate", "run", "-m")))  # fmt: skip
    assert "1 passed" in out


def test_install_in_a_program(tmp_path: Path) -> None:
    source = """
    import skate.compat
    skate.compat.install()
    skate.compat.install()
    import ray
    print(ray.__name__, ray.get(ray.put(5)))
    """
    assert printed(run(tmp_path, source, command=())) == "ray 5\n"


def test_install_too_late(tmp_path: Path) -> None:
    source = """
    import skate, skate.compat
    skate.init(num_cpus=1)
    try:
        skate.compat.install()
    except RuntimeError as error:
        print(error)
    """
    assert "Call it before init()" in printed(run(tmp_path, source, command=()))


def test_interrupt(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import ray, time\nray.init(num_cpus=1)\nprint('ready', flush=True)\ntime.sleep(1000)"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "skate", "run", "program.py"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")
