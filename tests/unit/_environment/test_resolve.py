"""From what the user wrote to what travels: digests, keys, what is inherited."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from skate._environment import resolve as module
from skate._environment import tree
from skate._environment.resolve import resolve
from skate._environment.spec import Environment, decode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, text in {
        "a.py": "A = 1\n", "run.sh": "true\n", "sub/b.txt": "b", "sub/skip.log": "no",
        "logs/x": "no", ".gitignore": "*.log\n", ".git/config": "no", "sub/.gitignore": "*.tmp\n",
        "sub/c.tmp": "no", "c.tmp": "yes",
    }.items():  # fmt: skip
        place = tmp_path / "project" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (tmp_path / "project" / "run.sh").chmod(0o755)
    return tmp_path / "project"


def made(given: dict[str, Any], parent: bytes = b"") -> Environment:
    return decode(resolve(given, parent))


def names(folder: Path, *excludes: str) -> list[str]:
    return [entry.path for entry in tree.walk(str(folder), [*tree.default_excludes(), *excludes])]


def test_what_belongs_to_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(folder, "logs/") == [".gitignore", "a.py", "c.tmp", "run.sh", "sub/.gitignore", "sub/b.txt"]
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    assert "sub/skip.log" in names(folder) and "sub/c.tmp" in names(folder)
    assert ".git/config" not in names(folder)
    monkeypatch.setenv("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")
    assert ".git/config" in names(folder)


def test_links_and_what_is_no_file(folder: Path) -> None:
    os.symlink(folder / "a.py", folder / "file-link")
    os.symlink(folder, folder / "sub" / "loop")
    os.symlink(folder / "nowhere", folder / "broken")
    os.mkfifo(folder / "fifo")
    found = {entry.path: entry.link for entry in tree.walk(str(folder), [])}
    assert found["file-link"] == "" and found["sub/loop"] == str(folder)
    assert "broken" not in found and "fifo" not in found


def test_a_copy_has_the_digest_of_its_original(folder: Path, tmp_path: Path) -> None:
    os.symlink(folder, folder / "sub" / "loop")
    entries = list(tree.walk(str(folder), []))
    copy = tmp_path / "copy"
    assert tree.copy(str(folder), entries, str(copy)) == tree.digest_of(str(folder), entries)
    assert (copy / "a.py").read_text() == "A = 1\n"
    assert os.access(copy / "run.sh", os.X_OK) and not os.access(copy / "a.py", os.X_OK)


def test_the_content_counts_not_the_place(folder: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    tree.copy(str(folder), list(tree.walk(str(folder), [])), str(twin))
    first, second = made({"working_dir": str(folder)}), made({"working_dir": str(twin)})
    assert first.key() == second.key()
    assert first.working_dir != second.working_dir
    (twin / "a.py").write_text("A = 2\n")
    assert made({"working_dir": str(twin)}).key() != first.key()


def test_a_change_that_keeps_the_size_is_seen(folder: Path) -> None:
    before = made({"working_dir": str(folder)}).key()
    info = os.stat(folder / "a.py")
    (folder / "a.py").write_text("A = 9\n")
    os.utime(folder / "a.py", ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    assert made({"working_dir": str(folder)}).key() != before


def test_what_is_excluded_makes_no_difference(folder: Path) -> None:
    given = {"working_dir": str(folder), "excludes": ["/logs"]}
    before = made(given).key()
    (folder / "logs" / "more").write_text("x")
    assert made(given).key() == before
    assert made({"working_dir": str(folder)}).key() != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"env_vars": {"A": "1"}}, {"env_vars": {"A": "2"}}),
        ({"pip": ["a"]}, {"uv": ["a"]}),
        ({"pip": ["a"]}, {"pip": ["a", "b"]}),
        ({"pip": ["a"]}, {"pip": {"packages": ["a"], "pip_check": True}}),
        ({"worker_process_setup_hook": "m.a"}, {"worker_process_setup_hook": "m.b"}),
        ({"worker_process_setup_hook": lambda: 1}, {"worker_process_setup_hook": lambda: 2}),
    ],
    ids=repr,
)
def test_what_workers_could_tell_apart_has_another_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert made(one).key() != made(other).key()
    assert made(one).key() == made(dict(one)).key()


def test_how_long_its_preparation_may_take_is_no_part_of_the_key() -> None:
    given = {"env_vars": {"B": "1", "A": "2"}}
    slow = made({**given, "config": {"setup_timeout_seconds": -1, "eager_install": False}})
    assert (slow.timeout_s, slow.eager) == (0, False)
    assert slow.key() == made(given).key() == made({"env_vars": {"A": "2", "B": "1"}}).key()
    assert made(given).timeout_s == 600


def test_a_child_inherits_what_it_does_not_name(folder: Path) -> None:
    parent = resolve({"working_dir": str(folder), "env_vars": {"A": "1", "B": "1"}, "pip": ["x"]}, b"")
    assert resolve(None, parent) is parent and resolve({}, parent) is parent
    child = made({"env_vars": {"B": "2"}, "uv": ["y"]}, parent)
    assert child.env_vars == {"A": "1", "B": "2"}
    assert child.working_dir == decode(parent).working_dir
    assert child.packages is not None and child.packages.tool == "uv"
    assert child.shown == {"working_dir": str(folder), "env_vars": {"A": "1", "B": "2"}, "uv": ["y"]}
    assert made({"pip": []}, parent).packages is None


def test_nothing_is_nothing() -> None:
    assert resolve(None, b"") == resolve({}, b"") == resolve({"pip": None}, b"") == b""
    assert not decode(b"").needs_preparation
    assert not made({"env_vars": {"A": "1"}}).needs_preparation
    assert made({"pip": ["a"]}).needs_preparation


def test_modules(folder: Path, tmp_path: Path) -> None:
    environment = made({"py_modules": [str(folder), json, str(folder / "a.py")]})
    assert [(one.kind, one.name) for one in environment.py_modules] == [
        ("dir", "project"), ("dir", "json"), ("file", "a.py")
    ]  # fmt: skip
    assert environment.shown["py_modules"][1] == os.path.dirname(json.__file__)
    for name in ("m-1-py3-none-any.whl", "m.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("m.py", "")
    kinds = made({"py_modules": [str(tmp_path / "m-1-py3-none-any.whl"), str(tmp_path / "m.zip")]}).py_modules
    assert [one.kind for one in kinds] == ["wheel", "zip"]
    import sys

    with pytest.raises(ValueError, match="sys.*no folder or file"):
        made({"py_modules": [sys]})


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    for given, says in [
        ({"working_dir": str(tmp_path / "no")}, "working_dir.*no such folder"),
        ({"working_dir": str(tmp_path / "file.txt")}, "folder or a .zip"),
        ({"py_modules": [str(tmp_path / "no")]}, r"py_modules'\]\[0\].*no such file"),
        ({"py_modules": [str(tmp_path / "file.txt")]}, ".py, .zip or .whl"),
        ({"pip": "requests"}, r"pip.*requirements file.*\['requests'\]"),
    ]:
        with pytest.raises(ValueError, match=says):
            made(given)


def test_too_much_is_refused_with_the_largest_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_FILES_MB", 0)
    with pytest.raises(ValueError, match=r"limit is 0 MB. Largest: .*excludes"):
        made({"working_dir": str(folder)})
    with pytest.raises(ValueError, match="Its largest field is 'env_vars'"):
        made({"env_vars": {"A": "x" * 300_000}})


def test_requirements_name_their_files_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels").mkdir()
    wheel = tmp_path / "wheels" / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"1")
    (tmp_path / "more.txt").write_text("x")
    given = ["numpy>=1", "./wheels/a-1-py3-none-any.whl", "-r more.txt", "--find-links wheels", "# no", "",
             "p @ https://example.org/p.whl", "./no.whl"]  # fmt: skip
    packages = made({"pip": given}).packages
    assert packages is not None
    assert packages.requirements == [
        "numpy>=1", str(wheel), f"-r {tmp_path / 'more.txt'}", f"--find-links {tmp_path / 'wheels'}",
        "p @ https://example.org/p.whl", "./no.whl",
    ]  # fmt: skip
    before = made({"pip": given}).key()
    wheel.write_bytes(b"2")
    assert made({"pip": given}).key() != before
    (tmp_path / "requirements.txt").write_text("\n".join(given))
    monkeypatch.chdir("/")
    assert made({"pip": str(tmp_path / "requirements.txt")}).key() == made(
        {"pip": packages.requirements}
    ).key()  # fmt: skip


def test_a_hook_that_cannot_be_sent() -> None:
    import threading

    lock = threading.Lock()
    with pytest.raises(TypeError, match="worker_process_setup_hook.*cannot be sent"):
        made({"worker_process_setup_hook": lambda: lock})
