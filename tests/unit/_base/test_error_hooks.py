"""Errors in a process that has loaded nothing of the runtime: they can still be shown and pickled."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import pickle, sys
from skate.exceptions import RayTaskError

error = RayTaskError("work", "the traceback", ValueError("cause")).as_instanceof_cause()
copy = pickle.loads(pickle.dumps(error))
assert isinstance(copy, ValueError) and isinstance(copy, RayTaskError), copy
assert type(pickle.loads(pickle.dumps(RayTaskError("work", "", KeyError(1))))) is RayTaskError
assert error._render_traceback_()[-1] == "the traceback"
assert "skate._serialize.exceptions" not in sys.modules
"""


def test_an_error_needs_no_runtime() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)


def test_the_runtime_sets_the_hooks() -> None:
    from skate._base import errors
    from skate._serialize import exceptions, tracebacks

    assert errors.reduce_task_error is exceptions.reduce_task_error
    assert errors.render_traceback is tracebacks.for_ipython
