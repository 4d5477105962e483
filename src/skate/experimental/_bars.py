"""Draws progress bars: side by side on a terminal, as lines now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TextIO

#: Elsewhere than on a terminal, a bar is printed this often at most (seconds).
_LINE_INTERVAL_S = 10.0
#: A bar that was not heard of for so long (seconds) belongs to a process that is gone.
_SILENCE_S = 600.0
_FULL, _EMPTY = "█", "·"
_MIN_BAR = 10


class _Bar:
    """The last known state of one bar."""

    def __init__(self, number: int) -> None:
        #: Bars that nobody gave a position are in the order in which they came.
        self.number = number
        self.state: dict[str, Any] = {}
        self.heard = 0.0
        #: When it was last printed as a line.
        self.printed = -_LINE_INTERVAL_S


class BarManager:
    """The bars of all processes, in the driver. Safe for several threads.

    Args:
        stream: where bars are drawn; default: standard error, whatever it is at that time.
        clock: returns seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.RLock()
        self._bars: dict[str, _Bar] = {}
        self._count = 0
        #: Lines of bars on the terminal, the cursor being at the start of the line below them.
        self._drawn = 0
        self._hidden = 0

    # ------------------------------------------------------------------ states

    def process_state_update(self, state: dict[str, Any]) -> None:
        """Take the state of a bar, and draw.

        Args:
            state: what ``tqdm`` tells: ``id``, ``desc``, ``n``, ``total``, ``unit``, ``position``,
                ``elapsed`` (seconds), ``pid``, ``closed``.

        Raises:
            KeyError: something is missing.
        """
        text(state, 80)  # is complete, or raises
        with self._lock:
            bar = self._bars.get(state["id"])
            if bar is None:
                if state["closed"]:
                    return
                self._count += 1
                bar = self._bars[state["id"]] = _Bar(self._count)
            bar.state = state
            bar.heard = self._clock()
            if state["closed"]:
                del self._bars[state["id"]]
            if self._is_terminal():
                self._draw(bar)
            else:
                self._print(bar)

    def _draw(self, changed: _Bar) -> None:
        self._erase()
        if changed.state["closed"] and not self._hidden:
            # The finished bar stays where it is; what comes later is below it.
            self._write(text(changed.state, self._width()) + "\n")
        self._redraw()

    def _redraw(self) -> None:
        if self._hidden:
            return
        silent = self._clock() - _SILENCE_S
        width = self._width()
        lines = [
            text(bar.state, width)
            for bar in sorted(self._bars.values(), key=lambda bar: (bar.state["position"], bar.number))
            if bar.heard >= silent
        ]
        lines = lines[: max(1, shutil.get_terminal_size().lines - 1)]
        if lines:
            self._write("".join(line + "\n" for line in lines))
        self._drawn = len(lines)

    def _erase(self) -> None:
        if self._drawn:
            # Up to the first bar; from there to the end of the screen.
            self._write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _print(self, bar: _Bar) -> None:
        now = self._clock()
        if bar.state["closed"] or now - bar.printed >= _LINE_INTERVAL_S:
            bar.printed = now
            self._write(text(bar.state, 80) + "\n")

    # ------------------------------------------------------------------ other output

    def hide_bars(self) -> None:
        """Take the bars off the terminal until ``unhide_bars``: something else is to be written.

        Example:
            >>> tqdm_ray.instance().hide_bars()
        """
        with self._lock:
            self._hidden += 1
            self._erase()

    def unhide_bars(self) -> None:
        """Draw the bars again.

        Example:
            >>> tqdm_ray.instance().unhide_bars()
        """
        with self._lock:
            self._hidden = max(0, self._hidden - 1)
            if not self._hidden and self._is_terminal():
                self._redraw()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bars for as long as the block runs; no other thread draws meanwhile."""
        with self._lock:
            self.hide_bars()
            try:
                yield
            finally:
                self.unhide_bars()

    # ------------------------------------------------------------------ the terminal

    def _target(self) -> TextIO:
        return sys.stderr if self._stream is None else self._stream

    def _is_terminal(self) -> bool:
        try:
            return self._target().isatty()
        except (ValueError, AttributeError):
            return False

    def _width(self) -> int:
        return shutil.get_terminal_size().columns

    def _write(self, piece: str) -> None:
        try:
            target = self._target()
            target.write(piece)
            target.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed by the program


def text(state: dict[str, Any], width: int) -> str:
    """Return a bar as one line of at most ``width - 1`` characters.

    Args:
        state: see ``BarManager.process_state_update``.
        width: columns of the terminal.
    """
    n, total, elapsed = state["n"], state["total"], state["elapsed"]
    rate = n / elapsed if elapsed > 0 and n else 0.0
    head = f"{state['desc']} (pid={state['pid']}) " if state["desc"] else f"(pid={state['pid']}) "
    speed = f"{rate:.3g} {state['unit']}/s" if rate < 1000 else f"{rate:.0f} {state['unit']}/s"
    if not total:
        return f"{head}{n} {state['unit']} [{_duration(elapsed)}, {speed}]"[: width - 1]
    share = min(1.0, max(0.0, n / total))
    left = _duration((total - n) / rate) if rate and n <= total else "?"
    head += f"{share:4.0%} "
    tail = f" {n}/{total} [{_duration(elapsed)}<{left}, {speed}]"
    space = width - 1 - len(head) - len(tail)
    if space < _MIN_BAR:
        return (head + tail.lstrip())[: width - 1]
    full = int(share * space)
    return head + _FULL * full + _EMPTY * (space - full) + tail


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
