"""``skate run``: a program, unmodified, with skate in place of ray."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from types import ModuleType, TracebackType

from skate import compat
from skate._base.process import working_folder
from skate._base.user_errors import is_a, report, set_traceback, traceback_of

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
            sys.path[0:0] = [] if sys.path[:1] == [""] else [working_folder()]
            runpy.run_module(program[0], run_name="__main__", alter_sys=True)
        else:
            _check(program[0])
            _run_file(program[0])
    except SystemExit:
        raise
    except BaseException as error:
        set_traceback(error, _users(error))
        if is_a(error, KeyboardInterrupt):
            raise  # the interpreter ends as interrupted programs do
        report(error)
        return 1
    return 0


def _run_file(name: str) -> None:
    path = os.path.abspath(name)  # as Python does: the program may change its folder
    if not name.endswith(".py"):  # an archive, a folder with a __main__.py, or compiled
        sys.path.insert(0, os.path.dirname(path))
        runpy.run_path(name, run_name="__main__")
        return
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__file__ = path
    exec(code, vars(main))  # noqa: S102 - the program that the user named


def _check(path: str) -> None:
    if not os.path.exists(path):
        raise SystemExit(f"skate run: there is no file {path!r}")


def _users(error: BaseException) -> TracebackType | None:
    """Return the traceback from the program's first frame on."""
    whole = first = traceback_of(error)
    while first is not None and first.tb_frame.f_code.co_filename.endswith(_HERE[1:] + (_own(),)):
        first = first.tb_next
    return first or (None if is_a(error, SyntaxError) else whole)


def _own() -> str:
    return os.path.abspath(__file__)
