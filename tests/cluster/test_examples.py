"""Every example runs, as a user would run it, and says what it is to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: What each prints, in part.
SAYS = {
    "actor_counter.py": "9 visits",
    "central_queue.py": "100 items went through the queue",
    "hello_tasks.py": "Hello, tasks!\nHello, actors!\nHello, objects!",
    "serve_pipeline.py": "{'query': 'second version', 'vector': [14.0, 2.0]}",
    "shared_arrays.py": "after 0.00000",
    "task_graph.py": "'broken': 'FileNotFoundError'",
    "word_count.py": " the\n",
}


def test_all_examples_are_known() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - {"compare.py"} == set(SAYS)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_examples(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert done.stderr == ""
