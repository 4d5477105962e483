"""Defines the messages between a thread that stopped at a breakpoint and the terminal that attached to it.

The thread listens on a Unix socket of its own in the session's folder; see ``_worker.debugging.breakpoints``.
"""

from __future__ import annotations

from msgspec import Struct


class Attach(Struct, array_like=True, frozen=True, tag=127):
    """Terminal to stopped thread, first frame: attach. Refused while another terminal is attached."""

    protocol: int


class Output(Struct, array_like=True, frozen=True, tag=122):
    """Stopped thread to terminal: show this text."""

    text: str


class Ask(Struct, array_like=True, frozen=True, tag=123):
    """Stopped thread to terminal: read a line; answered with Line or Detach."""

    prompt: str


class Line(Struct, array_like=True, frozen=True, tag=124):
    """Terminal to stopped thread: the line that was typed, without its newline."""

    text: str


class Detach(Struct, array_like=True, frozen=True, tag=125):
    """Terminal to stopped thread: end of input (Ctrl-D), which continues the program at pdb's own prompt."""


class Interrupt(Struct, array_like=True, frozen=True, tag=126):
    """Terminal to stopped thread: the user pressed Ctrl-C while the thread runs between two prompts."""
