"""Progress bars of several workers, side by side in the driver's terminal.

::

    from skate.experimental import tqdm_ray

    @skate.remote
    def work(name):
        for _ in tqdm_ray.tqdm(range(1000), desc=name):
            ...

A bar in a worker prints its state as a marked line, now and then; worker output goes to the driver
anyway, and there the lines become bars. On a Ray cluster Ray's own bars take this way::

    worker: tqdm.update --> print(MARK + json) --> node daemon --> driver: show() --> BarManager --> terminal

The code that shows worker output calls ``show``. If the output is no terminal, it prints a line from time to
time instead of moving bars.
"""

from __future__ import annotations

import builtins
import json
import os
import threading
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any, TextIO

from skate.engine import engine
from skate.engine.bars import MARK
from skate.experimental._bars import BarManager

__all__ = ["BarManager", "MARK", "instance", "safe_print", "take", "tqdm"]


class tqdm:
    """A progress bar, with the part of the interface of the package ``tqdm`` that matters most.

    In a task or actor it appears in the driver's terminal, below those of others; in the driver, too.

    Args:
        iterable: iterating over the bar yields its items and counts them.
        desc: text before the bar.
        total: how many steps make the whole; default: the length of the iterable, if it has one.
        unit: what a step is, for the rate: ``1200 files/s``; default "it".
        position: bars are sorted by it; default: in the order in which they appear.
        flush_interval_s: seconds between two updates of the display at least; default 1.0.

    Example:
        >>> bar = tqdm_ray.tqdm(total=100, desc="download")
        >>> bar.update(10)
        >>> bar.close()
    """

    DEFAULT_FLUSH_INTERVAL_SECONDS = 1.0

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: int | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        if total is None and iterable is not None:
            try:
                total = len(iterable)  # type: ignore[arg-type]
            except TypeError:
                pass  # nobody knows
        self._iterable = iterable
        self._desc = desc or ""
        self._total = total
        self._unit = unit or "it"
        self._position = position or 0
        self._interval = self.DEFAULT_FLUSH_INTERVAL_SECONDS if flush_interval_s is None else flush_interval_s
        self._n = 0
        self._id = os.urandom(8).hex()
        self._started = self._shown = monotonic()
        self._closed = False
        self._show()

    @property
    def n(self) -> int:
        """Steps done. Can be set; the display follows with the next update."""
        return self._n

    @n.setter
    def n(self, n: int) -> None:
        self._n = n

    @property
    def total(self) -> int | None:
        """Steps that make the whole; None: not known. Can be set."""
        return self._total

    @total.setter
    def total(self, total: int | None) -> None:
        self._total = total

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("this bar was made without an iterable: call update() instead")
        for item in self._iterable:
            yield item
            self.update()
        self.close()

    def update(self, n: int = 1) -> None:
        """Count steps.

        Args:
            n: how many.

        Example:
            >>> bar.update(10)
        """
        self._n += n
        if monotonic() - self._shown >= self._interval:
            self._show()

    def set_description(self, desc: str) -> None:
        """Change the text before the bar.

        Args:
            desc: the text; the display follows with the next update.

        Example:
            >>> bar.set_description("unpack")
        """
        self._desc = desc

    def refresh(self) -> None:
        """Show the state as it is now.

        Example:
            >>> bar.refresh()
        """
        self._show()

    def close(self) -> None:
        """Show the last state and take the bar off the display.

        Example:
            >>> bar.close()
        """
        if not self._closed:
            self._closed = True
            self._show()

    def __enter__(self) -> tqdm:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _show(self) -> None:
        self._shown = monotonic()
        state = {
            "id": self._id,
            "desc": self._desc,
            "n": self._n,
            "total": self._total,
            "unit": self._unit,
            "position": self._position,
            "elapsed": round(self._shown - self._started, 3),
            "pid": os.getpid(),
            "closed": self._closed,
        }
        found = engine()
        if found is None or not found.show_bar(state):
            instance().process_state_update(state)


class _Process:
    """The manager of this process."""

    manager: BarManager | None = None
    lock = threading.RLock()


def instance() -> BarManager:
    """Return what draws the bars in this process; a driver has one.

    Example:
        >>> tqdm_ray.instance().hide_bars()
    """
    with _Process.lock:
        if _Process.manager is None:
            _Process.manager = BarManager()
        return _Process.manager


def safe_print(*args: Any, **kwargs: Any) -> None:
    """Print above the bars. In a worker, just print.

    Args:
        args, kwargs: as of ``print``.

    Example:
        >>> tqdm_ray.safe_print("half of it is done")
    """
    manager = _Process.manager
    if manager is None:
        builtins.print(*args, **kwargs)
        return
    with manager.hidden():
        builtins.print(*args, **kwargs)


def take(text: str) -> str:
    """Draw the bars whose states are in what a worker printed; return what is left to be printed.

    Args:
        text: whole lines.

    Example:
        >>> tqdm_ray.take("hello\\n")
        'hello\\n'
    """
    if MARK not in text:
        return text
    rest = []
    for line in text.splitlines(keepends=True):
        before, mark, state = line.partition(MARK)
        if not mark:
            rest.append(line)
            continue
        if before:
            rest.append(before + "\n")
        try:
            instance().process_state_update(json.loads(state))
        except (ValueError, KeyError, TypeError):
            rest.append(line)  # somebody else's line
    return "".join(rest)


def show(text: str, stream: TextIO, prefix: str = "") -> None:
    """Write what a worker printed: states of bars become bars, the rest appears above them.

    Args:
        text: whole lines.
        stream: where to.
        prefix: what each line begins with: where it comes from.

    Example:
        >>> tqdm_ray.show("hello\\n", sys.stdout, "(work pid=7) ")
        (work pid=7) hello
    """
    lines = take(text).splitlines()
    if lines:
        with instance().hidden():
            stream.write("".join(f"{prefix}{line}\n" for line in lines))
            stream.flush()
