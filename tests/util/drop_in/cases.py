"""What the programs beside this one share: running their cases. What pools call stays in each ``__main__``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what a call returns, or the type of what it raises and its text."""
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        return type(error).__name__, str(error.args[0]) if error.args else ""


def kind(call: Any, *args: Any, **kwargs: Any) -> Any:
    """``outcome`` where the text is for people."""
    got = outcome(call, *args, **kwargs)
    return got[0] if isinstance(got, tuple) and len(got) == 2 and isinstance(got[0], str) else got


def run(namespace: Mapping[str, Any], names: Sequence[str], *args: Any) -> None:
    """Run the cases of a program, all or those of these names, and print a line for each."""
    for name, case in list(namespace.items()):
        if name.startswith("case_") and (not names or name in names):
            print(f"{name}: {outcome(case, *args)!r}", flush=True)
