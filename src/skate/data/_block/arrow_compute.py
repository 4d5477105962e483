"""``pyarrow.compute``, loaded when one of its functions is first used.

Loading it takes a fifth of the time that a small program needs until its first row, which often needs none of
its functions. Modules of ``skate.data`` import this one under the usual name::

    from skate.data._block import arrow_compute as pc
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    import pyarrow.compute

    found = getattr(pyarrow.compute, name)
    if not name.startswith("__"):
        globals()[name] = found
    return found
