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
#: The services that a program before the next one imports the generated modules of.
SERVICES = re.compile(r"^```protobuf\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
GENERATED = re.compile(r"^from (\w+)_pb2 import", re.MULTILINE)


def _examples() -> list[object]:
    found: list[object] = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        for match in EXAMPLE.finditer(text):
            line = text.count("\n", 0, match.start("program")) + 1
            services = (
                SERVICES.findall(text, 0, match.start()) if GENERATED.search(match["program"]) else [""]
            )
            found.append(
                pytest.param(match["program"], match["output"], services[-1], id=f"{path.name}:{line}")
            )
    return found


def test_there_are_examples() -> None:
    names = {example.id.partition(":")[0] for example in _examples()}  # type: ignore[attr-defined]
    assert {"README.md", "helpers.md", "gpus.md"} <= names


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in main.COMMANDS if f"`skate {name}`" not in text] == []


@pytest.mark.parametrize(("program", "output", "services"), _examples())
def test_example(program: str, output: str | None, services: str, tmp_path: Path) -> None:
    generated = GENERATED.search(program)
    if generated is not None:
        (tmp_path / f"{generated[1]}.proto").write_text(services)
        options = ["-I.", "--python_out=.", "--grpc_python_out=.", f"{generated[1]}.proto"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options], check=True, cwd=tmp_path)
    file = tmp_path / "example.py"
    file.write_text(program)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert (done.stdout, done.stderr) == (output, "")
