"""``runtime_env``: variables, folders and modules, of jobs, tasks and actors. Nothing from the network."""

from __future__ import annotations

import os
import textwrap

import pytest
import ray
from ray.runtime_env import RuntimeEnv

from compat.conformance.helpers import differs, needs_processes

pytestmark = [needs_processes, pytest.mark.usefixtures("session")]


@ray.remote
def variable(name):
    return os.environ.get(name)


@ray.remote
def read(path):
    with open(path) as file:
        return file.read()


@ray.remote
class Actor:
    def variable(self, name):
        return os.environ.get(name)

    def imported(self, name):
        import importlib

        return importlib.import_module(name).VALUE

    def nested(self, name):
        return ray.get(variable.remote(name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a file, a module, and what is to be left out."""
    made = tmp_path_factory.mktemp("env") / "project"
    (made / "data").mkdir(parents=True)
    (made / "data" / "file.txt").write_text("from the folder")
    (made / "conformance_module.py").write_text("VALUE = 'of the module'\n")
    (made / "left_out.log").write_text("log")
    (made / ".gitignore").write_text("ignored.txt\n")
    (made / "ignored.txt").write_text("x")
    package = made / "conformance_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        textwrap.dedent("""
        from .inner import VALUE
    """)
    )
    (package / "inner.py").write_text("VALUE = 'of the package'\n")
    return made


# ---------------------------------------------------------------------- variables


def test_env_vars_of_a_task() -> None:
    chosen = variable.options(runtime_env={"env_vars": {"CONFORMANCE": "task"}})
    assert ray.get(chosen.remote("CONFORMANCE")) == "task"
    assert ray.get(variable.remote("CONFORMANCE")) is None
    assert "CONFORMANCE" not in os.environ


def test_env_vars_of_an_actor() -> None:
    actor = Actor.options(runtime_env={"env_vars": {"CONFORMANCE": "actor"}}).remote()
    assert ray.get(actor.variable.remote("CONFORMANCE")) == "actor"


def test_children_inherit() -> None:
    actor = Actor.options(runtime_env={"env_vars": {"CONFORMANCE": "parent"}}).remote()
    assert ray.get(actor.nested.remote("CONFORMANCE")) == "parent"


def test_env_vars_of_children_are_merged() -> None:
    @ray.remote(runtime_env={"env_vars": {"A": "1", "B": "2"}})
    def parent():
        chosen = both.options(runtime_env={"env_vars": {"B": "3", "C": "4"}})
        return ray.get(chosen.remote())

    @ray.remote
    def both():
        return [os.environ.get(name) for name in "ABC"]

    assert ray.get(parent.remote()) == ["1", "3", "4"]


def test_env_vars_refer_to_others() -> None:
    chosen = variable.options(runtime_env={"env_vars": {"PATH": "/first:${PATH}"}})
    found = ray.get(chosen.remote("PATH"))
    assert found.startswith("/first:")
    assert len(found) > len("/first:")


def test_by_decorator() -> None:
    @ray.remote(runtime_env={"env_vars": {"CONFORMANCE": "decorated"}})
    def named():
        return os.environ["CONFORMANCE"]

    assert ray.get(named.remote()) == "decorated"


def test_the_class() -> None:
    env = RuntimeEnv(env_vars={"CONFORMANCE": "class"})
    assert env["env_vars"] == {"CONFORMANCE": "class"}
    assert ray.get(variable.options(runtime_env=env).remote("CONFORMANCE")) == "class"


def test_what_a_task_knows_of_it() -> None:
    @ray.remote(runtime_env={"env_vars": {"CONFORMANCE": "known"}})
    def env():
        return dict(ray.get_runtime_context().runtime_env["env_vars"])

    assert ray.get(env.remote()) == {"CONFORMANCE": "known"}


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "env",
    [
        {"env_vars": {"A": 1}},
        {"env_vars": ["A"]},
        {"working_dir": 5},
        {"py_modules": "not-a-list"},
        {"pip": 5},
        {"pip": ["x"], "conda": "y"},
    ],
    ids=str,
)
def test_wrong_environments_are_refused(env) -> None:
    with pytest.raises((TypeError, ValueError)):
        variable.options(runtime_env=env).remote("A")


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises((ValueError, ray.exceptions.RuntimeEnvSetupError)):
        ray.get(variable.options(runtime_env={"working_dir": "/no/such/folder"}).remote("A"))


# ---------------------------------------------------------------------- folders and modules of single tasks


@differs(on="ray", reason="folders of this machine are taken for whole jobs only, not for tasks and actors")
def test_working_dir_of_a_task(folder) -> None:
    chosen = read.options(runtime_env={"working_dir": str(folder)})
    assert ray.get(chosen.remote("data/file.txt")) == "from the folder"


@differs(on="ray", reason="modules of this machine are taken for whole jobs only, not for tasks and actors")
def test_py_modules_of_an_actor(folder) -> None:
    actor = Actor.options(runtime_env={"py_modules": [str(folder / "conformance_package")]}).remote()
    assert ray.get(actor.imported.remote("conformance_package")) == "of the package"


# ---------------------------------------------------------------------- of the job


@pytest.mark.usefixtures("no_session")
def test_of_a_job(folder, tmp_path) -> None:
    package = tmp_path / "elsewhere" / "conformance_more"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 'from elsewhere'\n")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        runtime_env={
            "env_vars": {"CONFORMANCE": "job"},
            "working_dir": str(folder),
            "excludes": ["*.log"],
            "py_modules": [str(package)],
        },
    )
    assert ray.get(variable.remote("CONFORMANCE")) == "job"
    chosen = variable.options(runtime_env={"env_vars": {"CONFORMANCE": "task"}})
    assert ray.get(chosen.remote("CONFORMANCE")) == "task"

    @ray.remote
    def look():
        return os.getcwd(), sorted(os.listdir())

    where, names = ray.get(look.remote())
    assert where != str(folder)
    assert "conformance_module.py" in names
    assert "left_out.log" not in names
    assert "ignored.txt" not in names
    assert ray.get(read.remote("data/file.txt")) == "from the folder"

    actor = Actor.remote()
    modules = ["conformance_module", "conformance_package", "conformance_more"]
    found = ray.get([actor.imported.remote(name) for name in modules])
    assert found == ["of the module", "of the package", "from elsewhere"]
