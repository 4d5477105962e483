"""Reads the stacks of a process that does not answer: it holds the interpreter in native code, say.

Each driver and worker registers Python's fault handler for a signal (``_base.stack_signal``), to write into a
memfd of its own; here that is found, the signal sent, the text read. A process without that memfd is left
alone, and so is one that does not catch the signal any more: the signal would end it.
"""

from __future__ import annotations

import os

from skate._base.stack_signal import NAME, SIGNAL

#: More is not read (bytes).
_MOST = 1 << 20
#: Lines of the runtime and of the interpreter's own start.
_OURS = (f"{os.sep}skate{os.sep}_", f'{os.sep}threading.py"', 'File "<frozen ')
_NOTHING = "  (in the runtime itself: it waits, or has nothing to do)\n"


class Dump:
    """The stacks that one process writes."""

    def __init__(self, pid: int, path: str) -> None:
        self._pid = pid
        self._path = path
        self._size = 0

    @classmethod
    def of(cls, pid: int) -> Dump | None:
        """Return where the process writes its stacks; None: it does not."""
        if SIGNAL is None or not _would_write(pid, SIGNAL):
            return None
        folder = f"/proc/{pid}/fd"
        try:
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                if os.readlink(path).startswith(f"/memfd:{NAME}"):
                    return cls(pid, path)
        except OSError:
            pass  # it ended, or closed a descriptor meanwhile
        return None

    def ask(self) -> bool:
        """Have the process write its stacks. False: it does not."""
        assert SIGNAL is not None
        try:
            os.truncate(self._path, 0)
            os.kill(self._pid, SIGNAL)
        except OSError:
            return False
        return True

    def complete(self) -> bool:
        """Tell whether it has written, and nothing more since this was called last."""
        try:
            before, self._size = self._size, os.stat(self._path).st_size
        except OSError:
            return True  # it ended
        return bool(self._size) and self._size == before

    def read(self) -> list[str]:
        """Return what it has written: the stack of each thread as ``skate stack`` shows it."""
        try:
            with open(self._path, "rb") as file:
                return shown(file.read(_MOST).decode("utf-8", "replace"))
        except OSError:
            return []


def _would_write(pid: int, number: int) -> bool:
    """Tell whether the process runs, and has a handler for a signal."""
    try:
        with open(f"/proc/{pid}/status") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return False
    stopped = facts.get("State", "").split()[:1] in (["T"], ["t"], ["Z"])
    return not stopped and bool(int(facts.get("SigCgt", "0"), 16) >> (number - 1) & 1)


def shown(text: str) -> list[str]:
    """Return the threads of the fault handler's text, the innermost frame last, without the runtime's."""
    found = []
    for block in text.split("\n\n"):
        title, *lines = block.strip("\n").splitlines() or [""]
        title, isa, _ = title.partition(" (most recent call first)")
        if not isa:
            continue
        frames = [line for line in lines if line.startswith("  File")]
        inner = [f"{line}\n" for line in frames if not any(one in line for one in _OURS)]
        name = title.replace("Current thread", "thread").replace("Thread", "thread")
        found.append(f"{name}:\n{''.join(reversed(inner)) or _NOTHING}")
    return found
