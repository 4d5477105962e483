"""runtime_env: variables, files, packages and hooks of jobs, tasks and actors; what their failures do."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.exceptions import RuntimeEnvSetupError
from skate.runtime_env import RuntimeEnv

from . import processes, wheels
from .waiting import wait_for, wait_until_none

Session = skate.api.RayContext

needs_uv = pytest.mark.skipif(
    importlib.util.find_spec("uv") is None and shutil.which("uv") is None, reason="uv is not installed"
)
#: pip takes a few seconds a run, more on a machine that has other things to do.
slow = pytest.mark.time_limit(90)


@skate.remote
def variable(name: str) -> str | None:
    return os.environ.get(name)


@skate.remote
def whereabouts() -> tuple[int, str, str | None]:
    return os.getpid(), os.getcwd(), os.environ.get("A")


@skate.remote
class Actor:
    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def nested(self, name: str) -> str | None:
        return skate.get(variable.remote(name))

    def pid(self) -> int:
        return os.getpid()

    def load(self, module: str) -> str:
        return str(importlib.import_module(module).VERSION)


@skate.remote
def load(module: str) -> str:
    return str(importlib.import_module(module).VERSION)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a module and data."""
    place = tmp_path / "work"
    (place / "data").mkdir(parents=True)
    (place / "mod_of_work.py").write_text("VERSION = 'of work'\n")
    (place / "data" / "numbers.txt").write_text("1 2 3")
    (place / "big.bin").write_text("large")
    return place


def logs_of_preparations() -> list[str]:
    folder = os.path.join(skate.init(ignore_reinit_error=True)["session_dir"], "logs")
    return [name for name in os.listdir(folder) if name.startswith("environment-")]


# ---------------------------------------------------------------------- variables and inheritance


def test_variables_of_job_task_and_actor_are_merged() -> None:
    skate.init(num_cpus=2, runtime_env=RuntimeEnv(env_vars={"A": "job", "B": "job"}))

    @skate.remote(runtime_env={"env_vars": {"B": "task", "C": "${A}-${HOME}"}})
    def mine() -> list[str | None]:
        return [os.environ.get(name) for name in "ABC"]

    @skate.remote(runtime_env={"env_vars": {"B": "outer"}})
    def outer() -> list[Any]:
        return skate.get([variable.remote("A"), variable.remote("B"), mine.remote()])

    # References mean what the job's own variables are: those of the driver.
    assert skate.get(mine.remote()) == ["job", "task", f"{os.environ.get('A', '')}-{os.environ['HOME']}"]
    assert skate.get(variable.remote("B")) == "job"
    assert skate.get(variable.options(runtime_env={"env_vars": {"B": "option"}}).remote("B")) == "option"
    assert skate.get(outer.remote())[:2] == ["job", "outer"]
    assert skate.get(outer.remote())[2][1] == "task"
    actor = Actor.options(runtime_env={"env_vars": {"B": "actor"}}).remote()
    assert skate.get([actor.variable.remote("A"), actor.variable.remote("B")]) == ["job", "actor"]
    assert skate.get(actor.nested.remote("B")) == "actor"
    assert "B" not in os.environ


def test_everyone_can_tell_its_environment(session: Session) -> None:
    @skate.remote(runtime_env={"env_vars": {"A": "1"}})
    def mine() -> tuple[Any, str]:
        context = skate.get_runtime_context()
        return context.runtime_env, context.get_runtime_env_string()

    environment, text = skate.get(mine.remote())
    assert isinstance(environment, RuntimeEnv)
    assert environment == json.loads(text) == {"env_vars": {"A": "1"}}
    assert skate.get_runtime_context().runtime_env == {}
    assert skate.get_runtime_context().get_runtime_env_string() == "{}"


def test_workers_of_one_environment_never_serve_another(session: Session) -> None:
    special = whereabouts.options(runtime_env={"env_vars": {"A": "special"}})
    found = skate.get([one.remote() for _ in range(20) for one in (whereabouts, special)])
    plain = {pid for pid, _, value in found[::2] if value is None}
    others = {pid for pid, _, value in found[1::2] if value == "special"}
    assert plain and others and not plain & others
    assert {value for _, _, value in found[::2]} == {None}
    assert {value for _, _, value in found[1::2]} == {"special"}


def test_equal_environments_share_their_workers() -> None:
    skate.init(num_cpus=1)
    environment = {"env_vars": {"A": "1", "B": "2"}}
    same = {"env_vars": {"B": "2", "A": "1"}, "config": {"setup_timeout_seconds": 5}}
    pids = [skate.get(whereabouts.options(runtime_env=env).remote())[0] for env in (environment, same)]
    assert pids[0] == pids[1]


def test_many_environments_do_not_keep_many_workers(session: Session) -> None:
    tasks = [variable.options(runtime_env={"env_vars": {"N": str(n)}}).remote("N") for n in range(12)]
    assert skate.get(tasks) == [str(n) for n in range(12)]

    def surplus() -> list[int]:
        workers = processes.roles(session["session_dir"]).workers
        return workers if len(workers) > 2 else []

    wait_until_none(surplus, "more workers than CPUs")


def test_pythonpath_counts_for_workers_that_are_forks(session: Session, folder: Path) -> None:
    task = load.options(runtime_env={"env_vars": {"PYTHONPATH": str(folder)}})
    assert skate.get(task.remote("mod_of_work")) == "of work"


def test_the_state_of_environments(session: Session, folder: Path, tmp_path: Path) -> None:
    from skate.util.state import list_runtime_envs

    (tmp_path / "broken.zip").write_text("no")
    bad = {"working_dir": str(tmp_path / "broken.zip")}
    good = {"working_dir": str(folder)}
    with pytest.raises(RuntimeEnvSetupError):
        skate.get(variable.options(runtime_env=bad).remote("A"))
    assert skate.get(variable.options(runtime_env=good).remote("A")) is None
    assert skate.get(variable.options(runtime_env={"env_vars": {"A": "1"}}).remote("A")) == "1"
    rows = list_runtime_envs()
    assert [(row.runtime_env, row.success, row.state) for row in rows] == [
        (bad, False, "failed"), (good, True, "ready"), ({"env_vars": {"A": "1"}}, True, "ready")
    ]  # fmt: skip
    assert "not a zip file" in rows[0].error and rows[0].ref_cnt == 0
    assert rows[1].error is None and rows[1].ref_cnt == 1 and rows[1].creation_time_ms > 0
    assert [row.runtime_env for row in list_runtime_envs(filters=[("success", "=", False)])] == [bad]


# ---------------------------------------------------------------------- files


@skate.remote
def look() -> tuple[str, list[str], str]:
    import mod_of_work  # type: ignore[import-not-found]

    with open("data/numbers.txt", encoding="utf-8") as file:
        numbers = file.read()
    return mod_of_work.__file__, sorted(os.listdir(".")), numbers


def test_a_working_folder_is_copied_and_importable(session: Session, folder: Path) -> None:
    (folder / ".gitignore").write_text("*.bin\n")
    (folder / "leave.me").write_text("x")
    task = look.options(runtime_env={"working_dir": str(folder), "excludes": ["leave.*"]})
    path, names, numbers = skate.get(task.remote())
    assert path.startswith(session["session_dir"])
    assert [name for name in names if name != "__pycache__"] == [".gitignore", "data", "mod_of_work.py"]
    assert numbers == "1 2 3"

    @skate.remote(runtime_env={"working_dir": str(folder)})
    def write() -> None:
        with open("result.txt", "w", encoding="utf-8") as file:
            file.write("mine")

    skate.get(write.remote())
    assert not (folder / "result.txt").exists()
    assert "mod_of_work" not in sys.modules


def test_the_working_folder_of_a_job(folder: Path) -> None:
    skate.init(num_cpus=2, runtime_env={"working_dir": str(folder)})
    assert skate.get(look.remote())[2] == "1 2 3"
    actor = Actor.remote()
    assert skate.get(actor.load.remote("mod_of_work")) == "of work"
    assert len(logs_of_preparations()) == 1

    @skate.remote
    def child_process() -> str:
        import subprocess

        code = "import mod_of_work, skate; print(mod_of_work.VERSION)"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert skate.get(child_process.remote()) == "of work\n"


def test_an_archive_as_working_folder(session: Session, folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "work.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    task = look.options(runtime_env={"working_dir": str(tmp_path / "work.zip")})
    assert skate.get(task.remote())[2] == "1 2 3"


def test_a_folder_that_changed_is_copied_again(session: Session, folder: Path) -> None:
    environment = {"working_dir": str(folder)}
    assert skate.get(load.options(runtime_env=environment).remote("mod_of_work")) == "of work"
    (folder / "mod_of_work.py").write_text("VERSION = 'of later work'\n")
    assert skate.get(load.options(runtime_env=environment).remote("mod_of_work")) == "of later work"


def test_equal_folders_are_copied_once(session: Session, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "twin")
    places = [
        skate.get(whereabouts.options(runtime_env={"working_dir": str(place)}).remote())[1]
        for place in (folder, tmp_path / "twin")
    ]
    assert places[0] == places[1]
    both = {"working_dir": str(folder), "env_vars": {"A": "1"}}
    assert skate.get(whereabouts.options(runtime_env=both).remote())[1:] == (places[0], "1")


def test_modules(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pack_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("VERSION = 'of a folder'\n")
    (tmp_path / "single_of_mine.py").write_text("VERSION = 'of a file'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere" / "loaded_of_mine").mkdir(parents=True)
    (tmp_path / "elsewhere" / "loaded_of_mine" / "__init__.py").write_text("VERSION = 'of a module'\n")
    module = importlib.import_module("loaded_of_mine")
    # Workers have this process's path: what they import must not come from there.
    (tmp_path / "elsewhere" / "loaded_of_mine" / "__init__.py").write_text("VERSION = 'of the driver'\n")
    task = load.options(runtime_env={"py_modules": [str(package), str(tmp_path / "single_of_mine.py")]})
    assert skate.get([task.remote("pack_of_mine"), task.remote("single_of_mine")]) == [
        "of a folder", "of a file"
    ]  # fmt: skip
    (tmp_path / "elsewhere" / "loaded_of_mine" / "__init__.py").write_text("VERSION = 'of a module'\n")
    by_module = load.options(runtime_env={"py_modules": [module]})
    assert skate.get(by_module.remote("loaded_of_mine")) == "of a module"
    with pytest.raises(ModuleNotFoundError, match="pack_of_mine"):
        skate.get(by_module.remote("pack_of_mine"))


def test_a_module_copy_comes_before_the_drivers(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "twice.py").write_text(f"VERSION = {name!r}\n")
    skate.shutdown()
    monkeypatch.syspath_prepend(str(tmp_path / "old"))
    skate.init(num_cpus=1)
    assert skate.get(load.remote("twice")) == "old"
    newer = load.options(runtime_env={"py_modules": [str(tmp_path / "new" / "twice.py")]})
    assert skate.get(newer.remote("twice")) == "new"


def test_what_cannot_be_used_is_said_at_the_call(session: Session, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        variable.options(runtime_env={"working_dir": str(tmp_path / "no")}).remote("A")
    with pytest.raises(ValueError, match="this machine only"):
        variable.options(runtime_env={"working_dir": "s3://bucket/work.zip"})
    with pytest.raises(ValueError, match="no such file"):
        Actor.options(runtime_env={"py_modules": [str(tmp_path / "no")]}).remote()


def test_a_session_takes_its_copies_along(folder: Path) -> None:
    session = skate.init(num_cpus=1, runtime_env={"working_dir": str(folder)})
    place = skate.get(whereabouts.remote())[1]
    assert os.path.isdir(place)
    skate.shutdown()
    assert not os.path.exists(os.path.join(session["session_dir"], "environments"))
    assert (folder / "mod_of_work.py").exists()


# ---------------------------------------------------------------------- packages


@slow
def test_pip_installs_a_wheel_for_those_alone_who_want_it(session: Session, tmp_path: Path) -> None:
    path = wheels.wheel(tmp_path, "wheel_of_mine", "1.0")
    environment = {"pip": {"packages": [path], "pip_install_options": ["--no-index"], "pip_check": False}}

    @skate.remote(runtime_env=environment)
    def mine() -> tuple[str, str, str]:
        import importlib.metadata
        import subprocess

        import wheel_of_mine  # type: ignore[import-not-found]

        code = "import wheel_of_mine, skate, pytest; print(wheel_of_mine.VERSION)"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return wheel_of_mine.VERSION, importlib.metadata.version("wheel_of_mine"), child.stdout

    actor = Actor.options(runtime_env=environment).remote()
    assert skate.get(mine.remote()) == ("1.0", "1.0", "1.0\n")
    assert skate.get(actor.load.remote("wheel_of_mine")) == "1.0"
    assert len(logs_of_preparations()) == 1
    with pytest.raises(ModuleNotFoundError):
        skate.get(load.remote("wheel_of_mine"))


@slow
def test_pip_of_a_job_from_a_requirements_file(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    wheels.wheel(tmp_path / "wheels", "wheel_of_mine", "2.0")
    (tmp_path / "requirements.txt").write_text("--no-index\n--find-links wheels\nwheel_of_mine>=1\n")
    skate.init(num_cpus=1, runtime_env={"pip": str(tmp_path / "requirements.txt")})
    assert skate.get(load.remote("wheel_of_mine")) == "2.0"


@slow
def test_a_wheel_as_module(session: Session, tmp_path: Path) -> None:
    path = wheels.wheel(tmp_path, "wheel_of_mine", "3.0")
    assert skate.get(load.options(runtime_env={"py_modules": [path]}).remote("wheel_of_mine")) == "3.0"


@slow
@needs_uv
def test_uv(session: Session, tmp_path: Path) -> None:
    path = wheels.wheel(tmp_path, "wheel_of_mine", "4.0")
    environment = {
        "uv": {"packages": [path], "uv_pip_install_options": ["--no-index", "--no-cache"], "uv_check": True}
    }
    assert skate.get(load.options(runtime_env=environment).remote("wheel_of_mine")) == "4.0"
    bad = {"uv": {"packages": ["no-such-package-of-ours"], "uv_pip_install_options": ["--no-index"]}}
    with pytest.raises(RuntimeEnvSetupError, match=r"(?s)uv pip install failed.*no-such-package-of-ours"):
        skate.get(load.options(runtime_env=bad).remote("wheel_of_mine"))


@slow
def test_what_pip_says_is_in_the_error(session: Session) -> None:
    bad = {"pip": {"packages": ["no-such-package-of-ours"], "pip_install_options": ["--no-index"]}}
    ref = load.options(runtime_env=bad).remote("x")
    with pytest.raises(RuntimeEnvSetupError) as caught:
        skate.get(ref)
    said = str(caught.value)
    assert "task load: pip install failed with exit code 1" in said
    assert "No matching distribution found for no-such-package-of-ours" in said
    log = said.rsplit("The whole output: ", 1)[1]
    assert "no-such-package-of-ours" in Path(log.strip()).read_text()
    actor = Actor.options(runtime_env=bad, name="named", max_restarts=-1).remote()
    for _ in range(2):
        with pytest.raises(RuntimeEnvSetupError, match="actor Actor: pip install failed"):
            skate.get(actor.pid.remote())
    with pytest.raises(ValueError, match="named"):
        skate.get_actor("named")
    assert skate.get(variable.remote("A")) is None


@slow
def test_a_requirement_that_is_not_met_fails_the_check(session: Session, tmp_path: Path) -> None:
    path = wheels.wheel(tmp_path, "wheel_of_mine", "1.0", requires="no-such-package-of-ours")
    packages = {"packages": [path], "pip_install_options": ["--no-index", "--no-deps"]}
    assert skate.get(load.options(runtime_env={"pip": packages}).remote("wheel_of_mine")) == "1.0"
    with pytest.raises(RuntimeEnvSetupError, match=r"(?s)pip check failed.*no-such-package-of-ours"):
        skate.get(load.options(runtime_env={"pip": {**packages, "pip_check": True}}).remote("wheel_of_mine"))


# ---------------------------------------------------------------------- while it is prepared


@slow
def test_only_those_wait_who_want_it_and_it_is_prepared_once(session: Session, tmp_path: Path) -> None:
    source, gate = wheels.gated(tmp_path, "slow_of_mine")
    environment = {"pip": {"packages": [source], "pip_install_options": ["--no-index"]}}
    waiting = [load.options(runtime_env=environment).remote("slow_of_mine") for _ in range(5)]
    actor = Actor.options(runtime_env=environment).remote()
    waiting.append(actor.load.remote("slow_of_mine"))
    wait_for(lambda: os.listdir(gate), "pip to build the package")
    for ref in (waiting[0], waiting[-1]):
        assert "its environment (pip) is being prepared" in skate.util.state.why(ref)
    # Whatever waits holds no resources: both CPUs are free for others.
    assert skate.get([variable.remote("A") for _ in range(10)]) == [None] * 10
    assert skate.wait(waiting, timeout=0)[0] == []
    (gate / "go").touch()
    assert skate.get(waiting) == ["1.0"] * 6
    assert len(os.listdir(gate)) == 2


@slow
def test_a_preparation_that_takes_too_long_is_ended(session: Session, tmp_path: Path) -> None:
    source, gate = wheels.gated(tmp_path, "slow_of_mine")
    environment = {
        "pip": {"packages": [source], "pip_install_options": ["--no-index"]},
        "config": {"setup_timeout_seconds": 1.5},
    }
    task = load.options(runtime_env=environment)
    with pytest.raises(RuntimeEnvSetupError, match=r"not ready after 1.5 s.*setup_timeout_seconds"):
        skate.get(task.remote("slow_of_mine"))
    # It is tried again, and with what was begun out of the way.
    (gate / "go").touch()
    patient = {**environment, "config": {"setup_timeout_seconds": -1}}
    assert skate.get(load.options(runtime_env=patient, num_cpus=0.5).remote("slow_of_mine")) == "1.0"


def building(gate: Path) -> list[int]:
    """Return the processes that build a gated package."""
    return [int(name[6:]) for name in os.listdir(gate) if name.startswith("begun-")]


@slow
@pytest.mark.parametrize("how", ["shutdown", "the daemon dies"])
def test_no_preparation_outlives_its_session(tmp_path: Path, how: str) -> None:
    source, gate = wheels.gated(tmp_path, "slow_of_mine")
    # It is prepared at once, though nobody runs anything yet.
    environment = {"pip": {"packages": [source], "pip_install_options": ["--no-index"]}}
    session = skate.init(num_cpus=1, runtime_env=environment)
    (pid,) = wait_for(lambda: building(gate), "pip to build the package")
    if how != "shutdown":
        os.kill(processes.roles(session["session_dir"]).daemon, signal.SIGKILL)
        with pytest.raises(skate.exceptions.LocalRayletDiedError):
            skate.get(load.remote("slow_of_mine"))
    skate.shutdown()
    wait_until_none(lambda: os.path.exists(f"/proc/{pid}"), "a process of pip")


@slow
def test_a_job_may_put_it_off(tmp_path: Path) -> None:
    source, gate = wheels.gated(tmp_path, "slow_of_mine")
    environment = {
        "pip": {"packages": [source], "pip_install_options": ["--no-index"]},
        "config": {"eager_install": False},
    }
    skate.init(num_cpus=1, runtime_env=environment)
    assert skate.nodes()  # the daemon has seen this job
    assert logs_of_preparations() == []
    (gate / "go").touch()
    assert skate.get(load.remote("slow_of_mine")) == "1.0"


@slow
def test_a_killed_actor_that_waits_is_gone(session: Session, tmp_path: Path) -> None:
    source, gate = wheels.gated(tmp_path, "slow_of_mine")
    environment = {"pip": {"packages": [source], "pip_install_options": ["--no-index"]}}
    actor = Actor.options(runtime_env=environment).remote()
    call = actor.pid.remote()
    (pid,) = wait_for(lambda: building(gate), "pip to build the package")
    skate.kill(actor)
    with pytest.raises(skate.exceptions.ActorDiedError, match="kill"):
        skate.get(call)
    wait_until_none(lambda: os.path.exists(f"/proc/{pid}"), "a process of pip that nobody waits for")


# ---------------------------------------------------------------------- hooks


def test_a_hook_runs_first_in_every_worker(tmp_path: Path) -> None:
    def hook() -> None:
        os.environ["HOOKED"] = skate.get_runtime_context().runtime_env["env_vars"]["A"]
        (tmp_path / str(os.getpid())).touch()

    skate.init(num_cpus=2, runtime_env={"worker_process_setup_hook": hook, "env_vars": {"A": "1"}})
    assert skate.get([variable.remote("HOOKED") for _ in range(5)]) == ["1"] * 5

    @skate.remote
    def passed_on() -> str | None:
        mine = skate.get_runtime_context().runtime_env
        return skate.get(variable.options(runtime_env={**mine, "env_vars": {"A": "2"}}).remote("HOOKED"))

    assert skate.get(passed_on.remote()) == "2"
    actor = Actor.remote()
    assert skate.get(actor.variable.remote("HOOKED")) == "1"
    assert (tmp_path / str(skate.get(actor.pid.remote()))).exists()


def test_a_hook_by_its_name(session: Session, folder: Path) -> None:
    (folder / "hooks_of_mine.py").write_text("import os\ndef hook():\n    os.environ['HOOKED'] = 'yes'\n")
    environment = {"worker_process_setup_hook": "hooks_of_mine.hook", "working_dir": str(folder)}
    assert skate.get(variable.options(runtime_env=environment).remote("HOOKED")) == "yes"


def test_a_hook_that_raises_is_the_error(session: Session) -> None:
    def hook() -> None:
        raise ValueError("not today")

    task = variable.options(runtime_env={"worker_process_setup_hook": hook})
    for _ in range(3):
        with pytest.raises(RuntimeEnvSetupError, match=r"(?s)setup_hook.*hook raised.*ValueError: not today"):
            skate.get([task.remote("A") for _ in range(3)])
    actor = Actor.options(runtime_env={"worker_process_setup_hook": hook}).remote()
    with pytest.raises(RuntimeEnvSetupError, match="not today"):
        skate.get(actor.pid.remote())
    missing = variable.options(runtime_env={"worker_process_setup_hook": "no_such_module.hook"})
    with pytest.raises(RuntimeEnvSetupError, match="No module named 'no_such_module'"):
        skate.get(missing.remote("A"))
    assert skate.get(variable.remote("A")) is None


def test_every_hook_that_raises_is_the_error(session: Session) -> None:
    """However many workers have ended of one before: the next actor is there before the last of them has gone."""

    def hook() -> None:
        raise ValueError("not today")

    for _ in range(20):
        actor = Actor.options(runtime_env={"worker_process_setup_hook": hook}).remote()
        with pytest.raises(RuntimeEnvSetupError, match="not today"):
            skate.get(actor.pid.remote())


def test_a_hook_cannot_start_tasks(session: Session) -> None:
    def hook() -> None:
        skate.get(variable.remote("A"))

    task = variable.options(runtime_env={"worker_process_setup_hook": hook})
    with pytest.raises(RuntimeEnvSetupError, match="runs before its worker is connected"):
        skate.get(task.remote("A"))


# ---------------------------------------------------------------------- actors, restarts, the last words


def test_an_actor_keeps_its_environment_when_it_is_restarted(session: Session, folder: Path) -> None:
    environment = {"working_dir": str(folder), "env_vars": {"A": "1"}}
    actor = Actor.options(runtime_env=environment, max_restarts=1, max_task_retries=-1).remote()
    first = skate.get(actor.pid.remote())
    os.kill(first, signal.SIGKILL)
    assert skate.get(actor.variable.remote("A")) == "1"
    assert skate.get(actor.load.remote("mod_of_work")) == "of work"
    assert skate.get(actor.pid.remote()) != first


def test_a_detached_actor_and_its_tasks_have_its_environment() -> None:
    skate.init(num_cpus=2, runtime_env={"env_vars": {"A": "job"}})

    @skate.remote(runtime_env={"env_vars": {"B": "task"}})
    def create() -> None:
        actor = Actor.options(name="d", lifetime="detached", runtime_env={"env_vars": {"C": "own"}}).remote()
        skate.get(actor.pid.remote())

    skate.get(create.remote())
    actor = skate.get_actor("d")
    assert skate.get([actor.nested.remote(name) for name in "ABC"]) == ["job", "task", "own"]
    skate.kill(actor)


def test_a_worker_that_dies_is_replaced_by_one_of_its_environment(session: Session, tmp_path: Path) -> None:
    mark = tmp_path / "died"

    @skate.remote(runtime_env={"env_vars": {"A": "1"}}, max_retries=1)
    def die_once() -> str | None:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.environ.get("A")

    assert skate.get(die_once.remote()) == "1"


def test_a_job_whose_environment_fails_fails_its_tasks(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "work.zip", "w") as archive:
        archive.writestr("a", "1")
    (tmp_path / "work.zip").write_bytes((tmp_path / "work.zip").read_bytes()[:10])
    skate.init(num_cpus=1, runtime_env={"working_dir": str(tmp_path / "work.zip")})
    with pytest.raises(RuntimeEnvSetupError, match="not a zip file"):
        skate.get(variable.remote("A"))
    own = variable.options(runtime_env={"working_dir": str(tmp_path), "env_vars": {"A": "1"}})
    assert skate.get(own.remote("A")) == "1"
