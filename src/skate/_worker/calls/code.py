"""Pickles the code of remote functions and actor classes, and checks its size."""

from __future__ import annotations

import os
from typing import Any

from skate._base import errors
from skate._serialize import culprit
from skate._serialize.values import dump_code
from skate._worker.process.context import ProcessContext

#: Code of more bytes holds data that should be an object: a warning says so.
WARN_BYTES = 10**7
#: Code of this many bytes is refused, unless Ray's environment variable sets another limit.
ERROR_BYTES = 10**8
VARIABLE = "FUNCTION_SIZE_ERROR_THRESHOLD"

_ADVICE = (
    "Check that its definition is not implicitly capturing a large array or other object in scope. Tip: use "
    "ray.put() to put large objects in the object store once, and pass the ref as an argument: workers then "
    "share it."
)


def dump(context: ProcessContext, code: Any, name: str) -> tuple[bytes, list[Any]]:
    """Return a function or class as bytes, and the refs in its closure or defaults.

    Args:
        context: of this process, which warns of large ones.
        code: the function or class.
        name: the name that users know it by.

    Raises:
        TypeError: something in it cannot be pickled: the message names the path to it.
        ValueError: it is too large.
        OufOfBandObjectRefSerializationException: it has captured a ref, and the environment forbids that.
    """
    try:
        blob, refs = dump_code(code)
        if refs:
            from skate._worker.objects.out_of_band import check_code  # here: little code holds any

            check_code(code)
    except (MemoryError, errors.OufOfBandObjectRefSerializationException):
        raise
    except Exception as error:
        kind = "actor class" if isinstance(code, type) else "function"
        text = culprit.explain(code, name, error)
        raise TypeError(f"Could not serialize the {kind} {name}: {text}") from None
    check_size(context, code, name, len(blob))
    return blob, refs


def check_size(context: ProcessContext, code: Any, name: str, size: int) -> None:
    """Warn of a pickled function or class that has something large in it, or refuse it.

    Args:
        context: of this process, which warns.
        code: the function or class.
        name: the name that users know it by.
        size: of its pickle, in bytes.

    Raises:
        ValueError: it is too large.
    """
    if size <= WARN_BYTES:
        return
    text = os.environ.get(VARIABLE, "")
    limit = int(text) if text.isdecimal() else ERROR_BYTES
    kind = "actor" if isinstance(code, type) else "remote function"
    path, part = culprit.largest(code, name)
    largest = f"{path} has {part >> 20} MiB"
    if size >= limit:
        raise ValueError(
            f"The {kind} {name} is too large ({size >> 20} MiB > {VARIABLE}={limit >> 20} MiB): {largest}. "
            f"{_ADVICE}"
        )
    context.warn(f"The {kind} {name} is very large ({size >> 20} MiB): {largest}. {_ADVICE}")
