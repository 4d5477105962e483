"""The package itself: light, and clear about what it needs."""

from __future__ import annotations

import subprocess
import sys

_WITHOUT_PYARROW = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "pyarrow" else found(name, *more)
import skate.data
try:
    skate.data.range(3)
except ImportError as error:
    print(error)
"""


def test_a_missing_pyarrow_names_the_extra() -> None:
    program = [sys.executable, "-c", _WITHOUT_PYARROW]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'skate-runtime[data]'" in done.stdout
