"""Each check of the code fails on code that breaks it.

A check that looks at the wrong files, or at none, passes for ever. So violations are planted in a copy of the
repository, and the checks run there, as they are: all contracts of import-linter, and the tests of this folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .sources import ROOT

tomllib: Any = pytest.importorskip("tomllib")  # it came with Python 3.11

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = [one for one in CONTRACTS if one["type"] == "layers"]
PURE, PUBLIC = (
    next(one for one in CONTRACTS if one["name"].startswith(name))
    for name in ("decision modules do no I/O", "data and serve are built on the public API")
)
ACYCLIC = next(one for one in CONTRACTS if one["type"] == "acyclic_siblings")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources and of the checks."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=unwanted)
    shutil.copytree(ROOT / "tests" / "fitness", tmp_path / "tests" / "fitness", ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _run(copy: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "COLUMNS": "500"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.stdout


# ---------------------------------------------------------------------- contracts of imports


def _path(copy: Path, module: str) -> Path:
    path = copy / "src" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _plant(copy: Path, module: str, line: str) -> None:
    path = _path(copy, module)
    path.write_text(f"{path.read_text()}\n{line}\n")


def _names(layer: str) -> list[str]:
    return [name.strip() for name in layer.split("|")]


def _broken(copy: Path) -> tuple[set[str], str]:
    """Return the names of the contracts that the copy breaks, and all that the linter says."""
    pytest.importorskip("importlinter")
    text = _run(copy, "-c", "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])")
    verdicts = re.findall(r"^(.+) (KEPT|BROKEN)$", text, re.MULTILINE)
    assert {name for name, _ in verdicts} == {one["name"] for one in CONTRACTS}, text
    return {name for name, verdict in verdicts if verdict == "BROKEN"}, text


def test_contracts_see_imports_upward_and_io(copy: Path) -> None:
    expected = {PURE["name"], PUBLIC["name"]}
    for contract in LAYERS:
        (container,) = contract["containers"]
        highest, lowest = (f"{container}.{_names(contract['layers'][at])[0]}" for at in (0, -1))
        _plant(copy, lowest, f"import {highest}")
        expected.add(contract["name"])
    for module in PURE["source_modules"]:
        _plant(copy, module, "import socket")
    _plant(copy, "skate.data.seeds", f"import {PUBLIC['forbidden_modules'][0]}")
    broken, text = _broken(copy)
    assert broken - {ACYCLIC["name"]} == expected
    unseen = [module for module in PURE["source_modules"] if f"{module} -> socket" not in text]
    assert unseen == []


def test_contracts_see_imports_aside(copy: Path) -> None:
    """Neighbours in one layer are independent of each other."""
    expected = set()
    for contract in LAYERS:
        (container,) = contract["containers"]
        neighbours = next((_names(layer) for layer in contract["layers"] if "|" in layer), None)
        if neighbours is not None:
            _plant(copy, f"{container}.{neighbours[0]}", f"from {container} import {neighbours[1]}")
            expected.add(contract["name"])
    assert len(expected) > 8
    assert expected <= _broken(copy)[0]


def test_the_contract_of_circles_sees_one(copy: Path) -> None:
    """In a package whose modules have no layers."""
    _plant(copy, "skate._serialize.values", "import skate._serialize.exceptions")
    _plant(copy, "skate._serialize.exceptions", "import skate._serialize.values")
    assert _broken(copy)[0] == {ACYCLIC["name"]}


@pytest.mark.parametrize("contract", LAYERS, ids=lambda contract: contract["name"].partition(":")[0])
def test_layers_name_every_module(contract: dict[str, Any]) -> None:
    """A module without a layer breaks the contract, whatever it imports."""
    assert contract["exhaustive"] is True


# ---------------------------------------------------------------------- tests of this folder

#: What no file may name, this one neither.
HOME = "/".join(["", "home", "somebody"])
#: Code for the end of a module, and the test that must fail then.
PLANTED = {
    "_worker/execution/executor.py": (
        "def _planted(entry: ObjectEntry) -> None:\n    entry.pins += 1\n",
        "test_owners.py::test_no_state_is_written_outside_of_its_owner[_worker/execution/executor.py]",
    ),
    "_inline/node.py": (
        "def _planted(task: Any) -> None:\n    task.connection = None\n",
        "test_owners.py::test_no_state_is_written_outside_of_its_owner[_inline/node.py]",
    ),
    "util/queue.py": (
        "def _planted() -> None:\n    import skate._worker.core\n",
        "test_engine_border.py::test_nothing_above_the_engine_touches_a_runtime",
    ),
    "_base/ids.py": (
        "def _planted() -> None:\n    import skate.api\n",
        "test_imports.py::test_no_module_imports_one_that_imports_it",
    ),
    "_node/leases/table.py": (
        "#: The crew.\n_PLANTED = 1\n",
        "test_words.py::test_sources_use_the_words_of_the_field[_node]",
    ),
    "_control/kv.py": (
        'def _planted() -> None:\n    """See the module\'s text."""\n',
        "test_words.py::test_sources_use_the_words_of_the_field[_control]",
    ),
    "_worker/execution/output.py": (
        "def _planted(error: BaseException) -> str:\n    return str(error)\n",
        "test_user_errors.py::test_no_hook_of_a_users_exception_runs_unguarded[_worker/execution/output.py]",
    ),
    "_inline/work.py": (
        "def _planted(error: BaseException) -> bool:\n    return isinstance(error, ValueError)\n",
        "test_user_errors.py::test_no_hook_of_a_users_exception_runs_unguarded[_inline/work.py]",
    ),
    "_serialize/sealed.py": ("\n" * 400, "test_files.py::test_files_are_small"),
    "_launch/session.py": (
        f'_PLANTED = "{HOME}/x"\n',
        "test_files.py::test_nothing_names_a_machine",
    ),
    "_environment/tree.py": (
        "",
        "test_files.py::test_modules_that_say_that_they_only_decide_are_held_to_it",
    ),
}


def test_the_tests_of_this_folder_see_what_is_planted(copy: Path) -> None:
    for module, (code, _) in PLANTED.items():
        path = copy / "src" / "skate" / module
        path.write_text(f"{path.read_text()}\n\n{code}")
    tree = copy / "src" / "skate" / "_environment" / "tree.py"
    tree.write_text(tree.read_text().replace('"""', '"""Decisions only. ', 1))
    (copy / "tests" / "fitness" / "test_slow.py").write_text("import time\n\ntime.sleep(1)\n")
    tests = {test for _, test in PLANTED.values()} | {"test_files.py::test_tests_do_not_sleep"}
    subprocess.run(["git", "init", "--quiet", str(copy)], check=True)  # some ask which files there are
    nodes = [f"tests/fitness/{test}" for test in sorted(tests)]
    text = _run(
        copy, "-m", "pytest", "-q", "-rA", "--tb=no", "-p", "no:cacheprovider", "-p", "no:skate", *nodes
    )
    assert sorted(re.findall(r"^FAILED (\S+)", text, re.MULTILINE)) == nodes, text
    assert not re.findall(r"^(?:PASSED|SKIPPED|ERROR) ", text, re.MULTILINE), text
