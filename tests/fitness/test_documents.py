"""ARCHITECTURE.md names what exists: a picture that drifts is worse than none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .sources import PACKAGE, ROOT, path_of, pure_modules

ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
#: Values that users pass in, other names, and what only starts the package: the picture of the layers
#: leaves them out.
NOT_DRAWN = {"__init__", "__main__", "cloudpickle", "job_config", "logging_config", "runtime_env", "types"}


def _section(title: str) -> str:
    parts = re.split(r"^## ", ARCHITECTURE, flags=re.MULTILINE)
    return next(part for part in parts if part.startswith(f"{title}\n"))


def _layers() -> set[str]:
    """Return the names in the picture of the layers."""
    picture = _section("Layers").split("```")[1]
    names: set[str] = set()
    for line in picture.splitlines():
        if line.startswith(" ") and not line.startswith("  "):
            names |= set(re.split(r"[,|]\s*|\s+", re.split(r"\s{2,}", line.strip())[0]))
    return names - {""}


def _exists(name: str) -> bool:
    """Tell whether a path is one of the repository or of the package."""
    return (ROOT / name).exists() or (PACKAGE / name).exists()


def _decision_modules() -> list[str]:
    """Return the files that ARCHITECTURE.md lists as decision modules."""
    text = _section("Layers")
    listed = text[text.index("*decision modules*") :].partition(": events in")[0]
    return re.findall(r"`(\w+/[\w/]+\.py)`", listed)


def _drawn(role: str) -> list[str]:
    """Return the layers in the picture of a role's inside, from the top."""
    found: list[str] = []
    inside = False
    for line in _section("Inside a role").split("```")[1].splitlines():
        words = re.split(r"\s{2,}", line.strip())[0]
        if line.startswith(" skate."):
            inside = words == role
        elif inside and words:
            found.append(words)
    return found


@pytest.mark.parametrize("role", ["skate._worker", "skate._node"])
def test_the_picture_of_a_role_is_that_of_its_contract(role: str) -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition(f'containers = ["{role}"]')[2]
    (layers,) = re.findall(r"^layers = (\[.*?\])$", contract.partition("[[tool")[0], re.DOTALL | re.MULTILINE)
    assert _drawn(role) == ast.literal_eval(layers)


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_the_files_that_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`((?:\w+/)+[\w.-]*\.(?:py|md|toml|json))`", text))
    named |= set(re.findall(r"`((?:src|tests|docs|benchmarks|examples|demo)/[\w/.-]*)`", text))
    assert sorted(name for name in named if not _exists(name)) == []


def test_links_lead_somewhere() -> None:
    broken = []
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_picture_in_the_readme_shows_its_first_program() -> None:
    """``docs/pictures/record.py`` draws what these files and ``skate`` print."""
    readme, pictures = (ROOT / "README.md").read_text(), ROOT / "docs" / "pictures"
    program = (pictures / "first.py").read_text()
    assert f"```python\n{program}```\n" in readme
    output = readme.partition(program)[2].split("```text\n")[1].split("```")[0]
    drawn = re.findall(r"<text [^>]*>(.*?)</text>", (pictures / "at-work.svg").read_text())
    assert drawn[: drawn.index("")] == ["$ python first.py", *output.splitlines()]


def test_adrs_that_are_named_exist() -> None:
    numbers = {int(path.name[:4]) for path in ROOT.glob("docs/adr/[0-9]*.md")}
    assert {int(number) for number in re.findall(r"\bADR (\d+)", ARCHITECTURE)} <= numbers


def test_every_layer_that_is_drawn_exists() -> None:
    drawn = _layers()
    assert len(drawn) > 15
    assert sorted(name for name in drawn if not path_of(f"skate.{name}").is_file()) == []


def test_every_layer_that_exists_is_drawn() -> None:
    parts = {path.stem for path in PACKAGE.glob("*.py")}
    parts |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(parts - _layers() - NOT_DRAWN) == []


def test_the_contract_of_layers_has_the_same_parts() -> None:
    """``pyproject.toml`` lists every part; what is drawn is in it."""
    contract = (ROOT / "pyproject.toml").read_text().partition('type = "layers"')[2].partition("]]")[0]
    listed = set(re.findall(r"[\w]+", " ".join(re.findall(r'^    "(.*)",$', contract, re.MULTILINE))))
    assert sorted(_layers() - listed) == []


def test_decision_modules_that_are_named_are_held_to_it() -> None:
    named = _decision_modules()
    assert len(named) > 10
    listed = {path_of(module) for module in pure_modules()}
    assert [name for name in named if PACKAGE / name not in listed] == []


def test_decision_modules_of_the_roles_are_named() -> None:
    """The two pages list those of the three roles and of the store."""
    roles = ("skate._worker.", "skate._store.", "skate._control.", "skate._node.")
    files = [
        path_of(module).relative_to(PACKAGE).as_posix()
        for module in pure_modules()
        if module.startswith(roles)
    ]
    text = _section("Layers") + _section("Failures")
    assert [name for name in files if f"`{name}`" not in text] == []


def test_the_processes_of_the_table_have_starters() -> None:
    table = _section("Processes")
    for process in ("driver", "worker", "node daemon", "zygote", "control store"):
        assert re.search(rf"^\| {process} \|", table, re.MULTILINE)
    for part in ("_worker", "_node", "_control", "_launch"):
        assert (PACKAGE / part).is_dir()
    assert Path(PACKAGE / "_launch" / "zygote.py").is_file()
