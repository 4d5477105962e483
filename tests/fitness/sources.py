"""Where everything lies, for tests about the code itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "skate"


def committed() -> list[Path]:
    """Return every file that is committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("this is no checkout of the repository")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def name_of(path: Path) -> str:
    """Return how people name a file of the repository."""
    return path.relative_to(ROOT).as_posix()


def pure_modules() -> list[str]:
    """Return what the import contracts say of modules that do no I/O, in their order."""
    text = (ROOT / "pyproject.toml").read_text()  # tomllib came with Python 3.11
    contract = text[text.index('name = "decision modules do no I/O') :]
    found = re.search(r"source_modules = \[(.*?)\]", contract, re.DOTALL)
    assert found is not None
    return re.findall(r'"([\w.]+)"', found[1])


def path_of(module: str) -> Path:
    """Return the file of a module or package, whether it exists or not."""
    path = ROOT / "src" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
