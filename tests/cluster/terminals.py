"""Programs on a terminal of their own, and somebody who types there."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from .waiting import Hung


class Terminal:
    """A program on a pseudo-terminal. Use as a context manager: it is killed in the end, if need be."""

    def __init__(self, *argv: object, env: dict[str, str] | None = None) -> None:
        self._fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *map(str, argv)],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "dumb", **(env or {})},
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(theirs)
        #: All that it showed, and how much of it was looked at.
        self.text = ""
        self._seen = 0

    def _read(self) -> bool:
        """Read once; tell whether there may be more."""
        try:
            select.select([self._fd], [], [])
        except Hung as hung:
            raise AssertionError(f"nothing more came; the terminal shows:\n{self.text}\n{hung}") from None
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the last process on it ended
            return False
        self.text += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until what is shown next has the pattern in it."""
        while True:
            found = re.compile(pattern).search(self.text, self._seen)
            if found is not None:
                self._seen = found.end()
                return found
            if not self._read():
                raise AssertionError(f"it ended without {pattern!r}; the terminal shows:\n{self.text}")

    def type(self, text: str) -> None:
        """Type, with a newline behind it."""
        self.press(text + "\n")

    def press(self, keys: str) -> None:
        """Type exactly this: ``\\x03`` is Ctrl-C, ``\\x04`` Ctrl-D."""
        os.write(self._fd, keys.encode())

    def press_until(self, keys: str, pattern: str) -> re.Match[str]:
        """Press keys until what is shown has the pattern in it, as a person does.

        At a prompt of ``input()`` a signal that comes just before Python's readline sleeps wakes nobody.
        """
        try:
            while True:
                self.press(keys)
                again = time.monotonic() + 2
                while time.monotonic() < again:
                    found = re.compile(pattern).search(self.text, self._seen)
                    if found is not None:
                        self._seen = found.end()
                        return found
                    if select.select([self._fd], [], [], max(0.0, again - time.monotonic()))[0]:
                        self._read()
        except Hung as hung:
            raise AssertionError(f"{keys!r} did not help; the terminal shows:\n{self.text}\n{hung}") from None

    def finish(self) -> int:
        """Wait for its end; return its exit code."""
        while self._read():
            pass
        return self.process.wait()

    def hang_up(self) -> None:
        """Take the terminal away."""
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._fd >= 0:
            os.close(self._fd)


def _take_terminal() -> None:
    """In the child: the pseudo-terminal is the one that controls this session."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def program(folder: Path, source: str) -> Path:
    """Write a program."""
    file = folder / "program.py"
    file.write_text(textwrap.dedent(source).lstrip())
    return file
