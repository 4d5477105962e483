"""A Jupyter kernel, and somebody who runs cells in it."""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

import skate

from .waiting import AGES, Hung

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Cell:
    """What a cell showed."""

    def __init__(self) -> None:
        #: "stdout", "stderr" to what was printed.
        self.stdout = ""
        self.stderr = ""
        self.result = ""
        #: Of an exception: its name, and what was shown of it.
        self.error = ""
        self.traceback = ""
        #: What it was asked for.
        self.asked: list[str] = []

    def take(self, message: dict[str, Any]) -> None:
        """Add what a message of the kernel shows."""
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind == "error":
            self.error = content["ename"]
            self.traceback = _COLOURS.sub("", "\n".join(content["traceback"]))
        elif kind == "execute_result":
            self.result = content["data"]["text/plain"]


class Kernel:
    """A kernel that runs in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        package = str(Path(skate.__file__).resolve().parents[1])  # whatever relative path led there
        self.manager.start_kernel(cwd=str(folder), env={**os.environ, "PYTHONPATH": package})
        self.client = self.manager.client()
        self.client.start_channels(hb=False)  # it would open sockets whenever it likes
        self.client.wait_for_ready(timeout=AGES)

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.manager.provisioner.process.pid)  # type: ignore[union-attr]

    def run(
        self,
        code: str,
        *,
        typed: Sequence[str] | None = None,
        until: Callable[[Cell], object] | None = None,
        interrupt: Callable[[Cell], object] | None = None,
    ) -> Cell:
        """Run a cell.

        Args:
            code: its text.
            typed: what to answer when it asks; None: it may not ask.
            until: what its output must be before this returns, be the cell done or not.
            interrupt: when to interrupt it.
        """
        answers = list(typed or ())
        cell = Cell()
        number = self.client.execute(code, allow_stdin=typed is not None)
        done = False
        try:
            while not (done and (until is None or until(cell))):
                if answers:
                    try:
                        cell.asked.append(self.client.get_stdin_msg(timeout=0.02)["content"]["prompt"])
                        self.client.input(answers.pop(0))
                    except queue.Empty:
                        pass
                try:
                    message = self.client.get_iopub_msg(timeout=0.02)
                except queue.Empty:
                    continue
                cell.take(message)
                if interrupt is not None and interrupt(cell):
                    interrupt = None
                    self.manager.interrupt_kernel()
                mine = message["parent_header"].get("msg_id") == number
                if mine and message["msg_type"] == "status":
                    done = done or message["content"]["execution_state"] == "idle"
        except Hung as hung:
            raise AssertionError(f"the cell is not done; it showed {vars(cell)}\n{hung}") from None
        return cell

    def restart(self) -> None:
        """As the button does."""
        self.manager.restart_kernel()
        self.client.wait_for_ready(timeout=AGES)

    def close(self) -> None:
        """End it."""
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
