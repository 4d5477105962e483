"""Every example of README.md and docs/ that is marked python runs as it stands, and says what it is said to say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from skate.cli import main

ROOT = Path(__file__).resolve().parents[2]
#: A program, and perhaps what it prints.
EXAMPLE = re.compile(
    r"^```python\n(?P<program>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)


def _examples() -> list[object]:
    found: list[object] = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        for match in EXAMPLE.finditer(text):
            line = text.count("\n", 0, match.start("program")) + 1
            found.append(pytest.param(match["program"], match["output"], id=f"{path.name}:{line}"))
    return found


def test_there_are_examples() -> None:
    names = {example.id.partition(":")[0] for example in _examples()}  # type: ignore[attr-defined]
    assert {"README.md", "helpers.md", "gpus.md"} <= names


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in main.COMMANDS if f"`skate {name}`" not in text] == []


@pytest.mark.parametrize(("program", "output"), _examples())
def test_example(program: str, output: str | None, tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(program)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert (done.stdout, done.stderr) == (output, "")
