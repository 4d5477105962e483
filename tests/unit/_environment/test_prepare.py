"""The cache of prepared folders, and copies; without pip and processes."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from skate._environment.prepare import Cache, SetupError, prepare
from skate._environment.resolve import resolve
from skate._environment.spec import Prepared, Request, decode


def request_for(folder: Path, given: dict[str, Any]) -> Request:
    environment = decode(resolve(given, b""))
    return Request(environment, str(folder / "cache"), str(folder / "result"), dict(os.environ), str(folder))


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    built: list[str] = []

    def build(path: str) -> None:
        built.append(path)
        os.mkdir(path)

    cache = Cache(str(tmp_path / "cache"))
    assert cache.entry("a", build) == cache.entry("a", build) == str(tmp_path / "cache" / "a")
    assert cache.entry("b", build) == built[-1]
    assert len(built) == 2


def test_what_was_begun_and_not_finished_is_built_anew(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))

    def fail(path: str) -> None:
        os.mkdir(path)
        raise SetupError("no")

    with pytest.raises(SetupError):
        cache.entry("a", fail)
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "half").touch()
    cache.entry("a", os.mkdir)
    assert os.listdir(tmp_path / "a") == []


def test_two_at_once_build_once(tmp_path: Path) -> None:
    cache, entered, go_on, built = Cache(str(tmp_path)), threading.Event(), threading.Event(), []

    def build(path: str) -> None:
        built.append(path)
        entered.set()
        go_on.wait(20)
        os.mkdir(path)

    threads = [threading.Thread(target=cache.entry, args=("a", build)) for _ in range(2)]
    threads[0].start()
    assert entered.wait(20)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(built) == 1


def test_copies_of_folders_files_and_archives(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("A = 1\n")
    (package / "sub" / "skip.log").write_text("no")
    (tmp_path / "single.py").write_text("B = 1\n")
    with zipfile.ZipFile(tmp_path / "work.zip", "w") as archive:
        archive.writestr("data/x.txt", "x")
        archive.writestr("../outside.txt", "no")
    request = request_for(
        tmp_path,
        {
            "working_dir": str(tmp_path / "work.zip"),
            "py_modules": [str(package), str(tmp_path / "single.py"), str(package)],
            "excludes": ["*.log"],
        },
    )
    made = prepare(request)
    assert made == prepare(request)
    assert Path(made.working_dir, "data", "x.txt").read_text() == "x"
    first, second = made.paths
    assert Path(first, "package", "__init__.py").read_text() == "A = 1\n"
    assert not Path(first, "package", "sub").exists()
    assert Path(second, "single.py").read_text() == "B = 1\n"
    assert not (tmp_path / "cache" / "outside.txt").exists()


def test_what_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a").write_text("1")
    request = request_for(tmp_path, {"working_dir": str(tmp_path / "work")})
    (tmp_path / "work" / "a").write_text("2")
    with pytest.raises(SetupError, match="work changed between.*excludes"):
        prepare(request)


def test_nothing_to_prepare(tmp_path: Path) -> None:
    assert prepare(request_for(tmp_path, {"env_vars": {"A": "1"}})) == Prepared()
