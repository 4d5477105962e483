"""The name ``ray`` under ``skate run``: in the program, in its workers, and in what these start themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from skate._as_ray import RAY_VERSION, environment

from .test_run import printed, run

#: What a process says of ray.
ASK = """
import importlib.metadata as metadata, importlib.util
import ray, ray.exceptions
print(ray.__name__, ray.__version__, metadata.version("ray"), ray.exceptions.GetTimeoutError.__module__)
"""
ANSWER = f"ray {RAY_VERSION} {RAY_VERSION} ray.exceptions\n"


def test_in_the_program_and_its_workers(tmp_path: Path) -> None:
    source = f"""
    import ray
    exec({ASK!r})

    @ray.remote
    def there():
        import importlib.metadata as metadata
        return ray.__name__, metadata.version("ray"), str(ray.ObjectRef)

    print(ray.get(there.remote()))
    print(str(ray).startswith("<module 'ray' from "), str(ray.exceptions.RayTaskError))
    """
    out = printed(run(tmp_path, source))
    assert out.startswith(ANSWER)
    assert f"('ray', '{RAY_VERSION}', \"<class 'ray.ObjectRef'>\")\n" in out
    assert "True <class 'ray.exceptions.RayTaskError'>\n" in out


def test_the_distribution(tmp_path: Path) -> None:
    source = """
    import importlib.metadata as metadata
    found = metadata.distribution("ray")
    print(found.metadata["Name"], list(found.entry_points), metadata.packages_distributions()["ray"])
    """
    assert printed(run(tmp_path, source)) == "ray [] ['ray']\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("where", ["program", "task"])
def test_multiprocessing(tmp_path: Path, method: str, where: str) -> None:
    (tmp_path / "asking.py").write_text(
        "import importlib.metadata, ray\n"
        "def ask(pipe):\n"
        "    import ray.exceptions as errors\n"
        "    pipe.send((ray.__name__, importlib.metadata.version('ray'), errors.GetTimeoutError('late')))\n"
    )
    source = f"""
    import multiprocessing, ray, asking

    def talk():
        context = multiprocessing.get_context({method!r})
        mine, other = context.Pipe()
        child = context.Process(target=asking.ask, args=(other,))
        child.start()
        answer = mine.recv()
        child.join()
        return *answer[:2], repr(answer[2]), type(answer[2]) is ray.exceptions.GetTimeoutError

    if __name__ == "__main__":
        import ray.exceptions
        print(talk() if {where!r} == "program" else ray.get(ray.remote(talk).remote()))
    """
    assert printed(run(tmp_path, source)) == f"('ray', '{RAY_VERSION}', \"GetTimeoutError('late')\", True)\n"


@pytest.mark.parametrize("where", ["program", "task"])
def test_processes_of_the_same_python(tmp_path: Path, where: str) -> None:
    (tmp_path / "asking.py").write_text(ASK)
    source = f"""
    import ray, subprocess, sys

    def talk():
        commands = ["-c", {ASK!r}], ["asking.py"], ["-m", "asking"]
        return [subprocess.run([sys.executable, *one], capture_output=True, text=True) for one in commands]

    for done in talk() if {where!r} == "program" else ray.get(ray.remote(talk).remote()):
        print(done.stdout + done.stderr, end="")
    """
    assert printed(run(tmp_path, source)) == ANSWER * 3


def test_a_child_runs_a_program_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(
        "import ray\n@ray.remote\ndef f():\n    return ray.__name__\nprint(ray.get(f.remote()))\n"
    )
    source = "import subprocess, sys, ray; subprocess.run([sys.executable, 'child.py'], check=True)"
    assert printed(run(tmp_path, source)) == "ray\n"


def test_isolated_processes_have_what_is_installed(tmp_path: Path) -> None:
    """``-I`` and ``-E`` do not read PYTHONPATH, as for any module there."""
    source = """
    import ray, subprocess, sys
    code = "import importlib.util; print(importlib.util.find_spec('ray'))"
    for option in ("-I", "-E"):
        print(subprocess.run([sys.executable, option, "-c", code], capture_output=True, text=True).stdout, end="")
    """
    assert "_as_ray" not in printed(run(tmp_path, source))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the Python of an environment without skate, and where its packages are."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    packages = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    return folder / "bin" / "python", packages


def test_another_environment_has_its_own_ray_or_none(tmp_path: Path, other: tuple[Path, Path]) -> None:
    python, packages = other
    ask = "import ray, importlib.metadata; print(ray.__file__, importlib.metadata.version('ray'))"
    source = f"""
    import ray, subprocess
    done = subprocess.run([{str(python)!r}, "-c", {ask!r}], capture_output=True, text=True)
    print(done.stdout, done.stderr.splitlines()[-1:])
    """
    out = printed(run(tmp_path, source, environment={"PYTHONPATH": ""}))
    assert out.strip() == "[\"ModuleNotFoundError: No module named 'ray'\"]"
    (packages / "ray").mkdir()
    (packages / "ray" / "__init__.py").write_text("from ray import inner")
    (packages / "ray" / "inner.py").write_text("")
    (packages / "ray-1.2.3.dist-info").mkdir()
    (packages / "ray-1.2.3.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ray\nVersion: 1.2.3\n"
    )
    out = printed(run(tmp_path, source, environment={"PYTHONPATH": ""}))
    assert out == f"{packages / 'ray' / '__init__.py'} 1.2.3\n []\n"


def test_without_the_variable_nothing_is_taken_over(tmp_path: Path) -> None:
    """A program may want the real one for a child of its own."""
    source = """
    import os, ray, subprocess, sys
    variables = {name: value for name, value in os.environ.items() if name != "SKATE_AS_RAY"}
    done = subprocess.run([sys.executable, "-c", "import ray"], env=variables, capture_output=True, text=True)
    print(done.stderr.splitlines()[-1])
    """
    assert printed(run(tmp_path, source)) == "ModuleNotFoundError: No module named 'ray'\n"


def test_the_command(tmp_path: Path) -> None:
    source = """
    import ray, shutil, subprocess

    @ray.remote
    def there():
        return subprocess.run("ray --version; ray job submit", shell=True, capture_output=True, text=True)

    assert ray.init(num_cpus=3).ray_version == ray.__version__
    print(shutil.which("ray"))
    print(subprocess.run(["ray", "status"], capture_output=True, text=True).stdout)
    print(subprocess.run(["serve", "status"], capture_output=True, text=True).stdout)
    done = ray.get(there.remote())
    print(done.stdout + done.stderr)
    """
    out = printed(run(tmp_path, source))
    assert out.startswith(os.path.join(environment.COMMANDS, "ray") + "\n")
    assert "of 3 in use" in out
    assert "no applications" in out
    assert f"ray, version {RAY_VERSION}\nray: skate has no `job` (yet)" in out


def test_start_and_stop(tmp_path: Path) -> None:
    source = """
    import subprocess
    for command in ("ray start --head --port=6379 --num-cpus 3", "ray status", "ray stop"):
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        print(done.returncode, done.stdout, done.stderr)
    """
    out = printed(run(tmp_path, source, environment={"TMPDIR": str(tmp_path)}))
    assert "ray start: --port without effect here" in out
    assert "of 3 in use" in out
    assert out.rstrip().endswith("ended.")
    assert [line[0] for line in out.splitlines() if line[:2] in ("0 ", "1 ", "2 ")] == ["0"] * 3


def test_a_driver_without_the_name_reads_what_one_with_it_made(tmp_path: Path) -> None:
    """Two jobs in one session; the actor of the first knows no ray."""
    (tmp_path / "plain.py").write_text(
        "import skate, sys\n"
        "skate.init(namespace='shared')\n"
        "class Keeper:\n"
        "    def keep(self, error):\n"
        "        self.error = error\n"
        "        return type(error).__module__\n"
        "    def give(self):\n"
        "        raise self.error\n"
        "actor = skate.remote(Keeper).options(name='keeper', num_cpus=0).remote()\n"
        "skate.get(actor.__ray_ready__.remote())\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    skate.get(actor.give.remote())\n"
        "except skate.exceptions.GetTimeoutError as error:\n"
        "    print(type(error).__mro__[2].__module__)\n"
    )
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    skate = [sys.executable, "-m", "skate"]
    subprocess.run(
        [*skate, "start", "--head", "--num-cpus", "1"], env=variables, check=True, capture_output=True
    )
    try:
        plain = subprocess.Popen(
            [sys.executable, "plain.py"], cwd=tmp_path, env=variables, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert plain.stdin is not None
        assert plain.stdout is not None
        assert plain.stdout.readline() == "ready\n"
        source = """
        import ray
        ray.init(namespace="shared")
        keeper = ray.get_actor("keeper")
        print(ray.get(keeper.keep.remote(ray.exceptions.GetTimeoutError("late"))))
        """
        assert printed(run(tmp_path, source, environment={"TMPDIR": str(tmp_path)})) == "skate.exceptions\n"
        assert plain.communicate("go\n")[0] == "skate.exceptions\n"
        assert plain.returncode == 0
    finally:
        subprocess.run([*skate, "stop"], env=variables, check=True, capture_output=True)


def test_pytest_warns_of_nothing(tmp_path: Path) -> None:
    """Also where skate is installed as a wheel, whose plugin pytest wants to rewrite."""
    (tmp_path / "packages" / "skate_runtime-0.1.0.dist-info").mkdir(parents=True)
    information = tmp_path / "packages" / "skate_runtime-0.1.0.dist-info"
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: skate-runtime\nVersion: 0.1.0\n")
    (information / "entry_points.txt").write_text("[pytest11]\nskate = skate.testing.plugin\n")
    (information / "RECORD").write_text("skate/__init__.py,,\nskate/testing/plugin.py,,\n")
    (tmp_path / "test_it.py").write_text("import ray\ndef test_it():\n    assert ray.get(ray.put(1)) == 1\n")
    done = run(
        tmp_path, "", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_it.py",
        command=("-m", "skate", "run", "-m"), environment={"PYTHONPATH": str(tmp_path / "packages")},
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr


def test_older_names_are_the_same_functions(tmp_path: Path) -> None:
    source = """
    import ray, ray.util.state, ray.internal, ray.internal.internal_api
    from ray.experimental.state import api
    from ray._private import internal_api, services
    print(all(getattr(api, name) is getattr(ray.util.state, name) for name in ray.util.state.__all__))
    print(ray.internal.free is internal_api.free is ray.internal.internal_api.free)
    print(services.get_node_ip_address is ray.util.get_node_ip_address)
    print(ray.worker.global_worker is ray._private.worker.global_worker, ray.worker.global_worker.mode)
    import ray.worker
    from ray.worker import get, global_worker
    print(get is ray.get, global_worker.node)
    """
    assert printed(run(tmp_path, source)) == "True\nTrue\nTrue\nTrue None\nTrue None\n"


def test_a_client_joins_the_session_of_this_machine(tmp_path: Path) -> None:
    source = """
    import os, ray, ray.util.client, subprocess
    subprocess.run(["ray", "start", "--head", "--num-cpus", "1"], check=True, stdout=subprocess.DEVNULL)
    try:
        print(ray.util.connect("localhost:10001", namespace="clients")["ray_version"] == ray.__version__)
        print(ray.get_runtime_context().namespace, ray.util.client.ray.is_connected())
        ray.util.disconnect()
        print(ray.is_initialized(), ray.util.client.num_connected_contexts())
    finally:
        subprocess.run(["ray", "stop"], check=True, stdout=subprocess.DEVNULL)
    """
    assert (
        printed(run(tmp_path, source, environment={"TMPDIR": str(tmp_path)}))
        == "True\nclients True\nFalse 0\n"
    )


NAMES = [
    "util.connect", "util.annotations.PublicAPI", "util.client.ray", "util.queue._QueueActor", "util.queue.Queue",
    "util.ActorPool", "util.state.list_actors", "_raylet.ObjectRef", "_private.worker.global_worker",
    "_private.services.get_node_ip_address", "_private.internal_api.free", "_private.utils.get_system_memory",
    "internal.free", "worker.global_worker", "experimental.state.api.list_actors", "exceptions.RayError",
    "experimental.get_object_locations", "experimental.tqdm_ray.tqdm", "util.dask.dataframe_optimize",
]  # fmt: skip


@pytest.mark.parametrize("how", ["attributes", "import", "from"])
def test_every_way_to_a_name(tmp_path: Path, how: str) -> None:
    """Each in a process that has seen nothing of it before."""
    source = f"""
    import os, sys

    for name in {NAMES!r}:
        module, _, last = name.rpartition(".")
        first = dict(
            attributes=f"import ray; first = ray.{{name}}",
            **{{"import": f"import ray.{{module}}; first = ray.{{name}}"}},
            **{{"from": f"from ray.{{module}} import {{last}} as first"}},
        )[{how!r}]
        child = os.fork()
        if not child:
            exec(first)
            exec(f"import ray.{{module}}; assert ray.{{name}} is first, name")
            sys.exit()
        print(name, os.waitpid(child, 0)[1])
    """
    assert printed(run(tmp_path, source)).splitlines() == [f"{name} 0" for name in NAMES]
