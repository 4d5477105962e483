"""Files: small, free of what only one machine knows; tests that do not sleep."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .sources import ROOT, committed, name_of, path_of, pure_modules

#: Lines that a file may have.
LIMIT = 500
#: Longer ones, the lines that they may have, and why they are not several. Decision modules: never here
#: without a word in the review.
LONGER = {
    "src/skate/_base/errors.py": (625, "the whole exception tree, one short class each"),
    "src/skate/_transport/reactor.py": (610, "one loop: who leads, who follows, and what wakes them"),
}
#: Tests are lists of cases: beyond this, a file is about more than one thing.
TEST_LIMIT = 1100

#: What a committed file must not name: folders of a developer's or a build's machine, package registries.
PRIVATE = {
    "a folder of a machine": re.compile(r"(?<![\w./$-])/(?:work|root|home/(?!me/)\w+)/"),
    "a registry": re.compile(
        r"(?:extra-)?index-url|file:///|https?://[\w.-]*(?:pypi|artifact|registry|mirror)"
    ),
    "a library of a machine": re.compile(r"\.library\b"),
}
ALLOWED = {
    ("tests/unit/_environment/test_fields.py", "/root/"),  # the value of a variable: nothing is there
}

#: Where tests start processes; there only, a task may have to be busy for a while.
SLEEP_ALLOWED = ("tests/cluster/", "tests/compat/conformance/")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""  # a picture


def _python() -> list[Path]:
    return [path for path in committed() if path.suffix == ".py"]


def test_files_are_small() -> None:
    too_long = {}
    for path in _python():
        name = name_of(path)
        limit = TEST_LIMIT if name.startswith("tests/") else LIMIT
        limit, _ = LONGER.get(name, (limit, ""))
        lines = len(path.read_text().splitlines())
        if lines > limit:
            too_long[name] = f"{lines} lines, {limit} allowed"
    assert not too_long, f"divide them, or say in LONGER why they are one: {too_long}"


@pytest.mark.parametrize("name", [*LONGER])
def test_exceptions_are_needed(name: str) -> None:
    """One that has become small again leaves the list, so that it stays small."""
    lines = len((ROOT / name).read_text().splitlines())
    assert lines > LIMIT


def test_nothing_names_a_machine() -> None:
    found = []
    for path in committed():
        if path == Path(__file__):
            continue  # it has all of them, to show what they are
        for what, pattern in PRIVATE.items():
            for match in pattern.finditer(_text(path)):
                if (name_of(path), match[0]) not in ALLOWED:
                    found.append(f"{name_of(path)}: {match[0]} is {what}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "cd /work/somewhere",
        '"/root/venv"',
        "PATH=/home/somebody/x",
        "--index-url",
        "http://pypi.local/simple",
    ],
)
def test_what_names_a_machine_is_seen(text: str) -> None:
    assert any(pattern.search(text) for pattern in PRIVATE.values())


@pytest.mark.parametrize(
    "text", ["src/work/x", "$HOME/work/", "a/root/b", "/homework/x", "/home/me/x", "./work/"]
)
def test_what_does_not_is_not(text: str) -> None:
    assert not any(pattern.search(text) for pattern in PRIVATE.values())


def _sleeps(tree: ast.AST) -> list[int]:
    """Return the lines on which something sleeps; giving way to others (``sleep(0)``) is no sleep."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        nothing = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if name == "sleep" and not nothing:
            lines.append(node.lineno)
    return lines


def test_tests_do_not_sleep() -> None:
    found = [
        f"{name_of(path)}:{line}"
        for path in _python()
        if path.name.startswith("test_")
        and name_of(path).startswith("tests/")
        and not name_of(path).startswith(SLEEP_ALLOWED)
        for line in _sleeps(ast.parse(path.read_text()))
    ]
    assert not found, f"wait for a condition instead: {', '.join(found)}"


def test_a_sleep_is_seen() -> None:
    program = "time.sleep(1)\nsleep(x)\nawait asyncio.sleep(0)\nasleep(1)\nrun(time.sleep)\n"
    assert _sleeps(ast.parse(program)) == [1, 2]


def test_modules_that_decide_exist() -> None:
    assert [module for module in pure_modules() if not path_of(module).is_file()] == []


def test_modules_that_say_that_they_only_decide_are_held_to_it() -> None:
    listed = {path_of(module) for module in pure_modules()}
    claimed = {
        path for path in _python()
        if name_of(path).startswith("src/")
        and "Decisions only" in (ast.get_docstring(ast.parse(path.read_text())) or "")
    }  # fmt: skip
    assert claimed, "they do say so"
    assert [name_of(path) for path in sorted(claimed - listed)] == []
