"""The examples of skate.data print what docs/data.md says. The programs in that text run in test_docs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "data"
#: A line that names an example, and what it prints.
SHOWN = re.compile(r"^`examples/data/(\w+\.py)`: [^\n]*\n\n```text\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
#: What an example needs besides pyarrow.
NEEDS = {"audio_segments.py": "soundfile", "dedup_html.py": "selectolax"}

shown = dict(SHOWN.findall((ROOT / "docs" / "data.md").read_text()))


def test_all_examples_are_shown() -> None:
    assert set(shown) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", sorted(shown))
def test_example(name: str, tmp_path: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == shown[name]
    assert list(tmp_path.iterdir()) == [], "what an example makes, it removes"


@pytest.mark.parametrize("name", sorted(shown))
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 60
