"""``skate run``: a program, unmodified, with skate in place of ray."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from types import TracebackType

from skate import compat

_HERE = (os.path.dirname(os.path.abspath(__file__)) + os.sep, "<frozen runpy>", "runpy.py")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the command takes."""
    parser.usage = "skate run [-m MODULE | SCRIPT] [ARGUMENTS ...]"
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="a module instead of a script")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="the script and its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Run the program as ``python`` would."""
    program: list[str] = arguments.module or arguments.program
    if not program:
        raise ValueError("name a script, or a module with -m")
    compat.install()
    sys.argv = program
    try:
        if arguments.module:
            sys.path[0:0] = [] if sys.path[:1] == [""] else [os.getcwd()]
            runpy.run_module(program[0], run_name="__main__", alter_sys=True)
        else:
            _check(program[0])
            sys.path.insert(0, os.path.dirname(os.path.abspath(program[0])))
            runpy.run_path(program[0], run_name="__main__")
    except SystemExit:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            error.__traceback__ = _users(error.__traceback__)
            raise  # the interpreter ends as interrupted programs do
        traceback.print_exception(type(error), error, _users(error.__traceback__))
        return 1
    return 0


def _check(path: str) -> None:
    if not os.path.exists(path):
        raise SystemExit(f"skate run: there is no file {path!r}")


def _users(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the program's first frame on."""
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename.endswith(_HERE[1:] + (_own(),)):
        first = first.tb_next
    return first or trace


def _own() -> str:
    return os.path.abspath(__file__)
