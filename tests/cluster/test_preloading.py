"""Modules that the zygote imports for the workers to come."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import skate
from skate.engine import require_engine

from .waiting import wait_for

SOURCE = """
import os
VERSION = {version!r}
with open({log!r}, "a") as log:
    log.write(f"{{os.getpid()}}\\n")
"""


def write_package(folder: Path, version: str, log: Path) -> None:
    package = folder / "skate_test_preloaded"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SOURCE.format(version=version, log=str(log)))


@skate.remote(num_cpus=0)
class Importing:
    def version(self) -> tuple[int, str, bool]:
        """Return the process, the package's version, and whether it was there already."""
        was_there = "skate_test_preloaded" in sys.modules
        import skate_test_preloaded  # type: ignore[import-not-found]

        return os.getpid(), skate_test_preloaded.VERSION, was_there


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak_check: None) -> Path:
    """A session that finds the package, and where the package notes who imports it."""
    write_package(tmp_path / "first", "first", tmp_path / "log")
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    skate.init(num_cpus=2)
    return tmp_path / "log"


def imported_by(log: Path) -> list[int]:
    return [int(pid) for pid in log.read_text().split()] if log.exists() else []


def forked_later() -> tuple[int, str]:
    """Return a worker that was forked after the import, and the version it has: some were there before."""
    actors = []
    while True:
        actors.append(Importing.remote())
        process, version, was_there = skate.get(actors[-1].version.remote())
        if was_there:
            return process, version


def test_workers_share_what_the_zygote_imported(log: Path) -> None:
    require_engine("test").preload(["skate_test_preloaded"])
    wait_for(lambda: imported_by(log), "the zygote's import")
    (zygote,) = imported_by(log)
    process, version = forked_later()
    assert version == "first"
    assert process not in imported_by(log)
    assert zygote not in (os.getpid(), process)


def test_a_worker_that_has_another_version_imports_that(log: Path, tmp_path: Path) -> None:
    write_package(tmp_path / "second", "second", tmp_path / "other_log")
    require_engine("test").preload(["skate_test_preloaded"])
    wait_for(lambda: imported_by(log), "the zygote's import")
    runtime_env = {"py_modules": [str(tmp_path / "second" / "skate_test_preloaded")]}
    with_other = Importing.options(runtime_env=runtime_env).remote()
    _, version, was_there = skate.get(with_other.version.remote())
    assert (version, was_there) == ("second", False)
    same = Importing.options(runtime_env={"env_vars": {"X": "1"}}).remote()
    assert skate.get(same.version.remote())[1:] == ("first", True)


def test_a_module_that_cannot_be_imported_stops_nobody(log: Path) -> None:
    require_engine("test").preload(["skate_test_no_such_module", "skate_test_preloaded"])
    wait_for(lambda: imported_by(log), "the zygote's next import")
    assert forked_later()[1] == "first"


def test_another_zygote_imports_them_too(log: Path) -> None:
    require_engine("test").preload(["skate_test_preloaded"])
    (zygote,) = wait_for(lambda: imported_by(log), "the zygote's import")
    os.kill(zygote, 9)
    wait_for(lambda: len(imported_by(log)) == 2, "the next zygote's import")
    assert forked_later()[1] == "first"
