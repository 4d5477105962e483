"""Reads and changes exceptions that user code raised, without trusting them.

Every hook of such an object may raise (``SystemExit`` too), recurse, refuse or lie: ``__str__``,
``__bool__``, ``__getattribute__``, ``__setattr__``, ``__class__``, a property named ``args`` or
``__traceback__``, a metaclass. The functions here read the built-in fields by the descriptors of
``BaseException`` and ``type``, which run no user code, and call a hook only where its result is wanted,
behind a guard. The runtime handles user exceptions through these functions alone;
``tests/fitness/test_user_errors.py`` looks for code that does not.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any

_CODE: Any = SystemExit.__dict__["code"]
_ARGS: Any = BaseException.__dict__["args"]
_DICT: Any = BaseException.__dict__["__dict__"]
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_SUPPRESS: Any = BaseException.__dict__["__suppress_context__"]
_NAME: Any = type.__dict__["__name__"]
_QUALNAME: Any = type.__dict__["__qualname__"]
_MODULE: Any = type.__dict__["__module__"]
_MRO: Any = type.__dict__["__mro__"]
_BASE: Any = type.__dict__["__base__"]
_MEMBERS: Any = type.__dict__["__dict__"]
#: Python 3.10 has no such type.
GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)
_PARTS: Any = GROUP.__dict__["exceptions"] if GROUP else None
_MESSAGE: Any = GROUP.__dict__["message"] if GROUP else None


# ---------------------------------------------------------------------- types


def type_name(value: object) -> str:
    """Return the name of an object's real type, whatever its metaclass says."""
    return str(_NAME.__get__(type(value)))


def full_name(kind: type) -> str:
    """Return module and qualified name of a class."""
    module = _MODULE.__get__(kind)
    name = str(_QUALNAME.__get__(kind))
    return f"{module}.{name}" if type(module) is str and module != "builtins" else name


def bases_of(kind: type) -> tuple[type, ...]:
    """Return the real method resolution order of a class."""
    found: tuple[type, ...] = _MRO.__get__(kind)
    return found


def is_a(value: object, kind: type) -> bool:
    """Tell whether an object's real type derives from ``kind``; ``isinstance`` asks its ``__class__``."""
    return any(base is kind for base in bases_of(type(value)))


def is_kind(kind: Any) -> bool:
    """Tell whether a value is a class of exceptions."""
    return any(base is type for base in bases_of(type(kind))) and any(
        base is BaseException for base in bases_of(kind)
    )


def is_native(kind: type) -> bool:
    """Tell whether a class is one of Python's own built-in ones."""
    return getattr(builtins, _NAME.__get__(kind), None) is kind


def native_type(kind: type[BaseException]) -> Any:
    """Return the built-in exception type whose layout a class has."""
    native: Any = kind
    while not is_native(native):
        native = _BASE.__get__(native)
    return native


def found_in(kind: type, name: str) -> Any:
    """Return the attribute that the class or a base class defines under this name, apart from built-in types;
    else None."""
    for base in bases_of(kind):
        members = _MEMBERS.__get__(base)
        if name in members and not is_native(base):
            return members[name]
    return None


def fields_of(kind: type) -> Iterator[tuple[type, str, Any]]:
    """Yield (class, name, descriptor) for every slot, and every field of a built-in type, but those that all
    exceptions have."""
    for base in bases_of(kind):
        if base is BaseException or base is object:
            continue
        for name, field in _MEMBERS.__get__(base).items():
            if type(field) in (MemberDescriptorType, GetSetDescriptorType) and not name.startswith("__"):
                yield base, name, field


# ---------------------------------------------------------------------- what an exception holds


def args_of(error: BaseException) -> tuple[Any, ...]:
    """Return ``args`` as Python keeps them."""
    found: tuple[Any, ...] = _ARGS.__get__(error)
    return found


def set_args(error: BaseException, args: tuple[Any, ...]) -> None:
    """Change ``args``."""
    _ARGS.__set__(error, args)


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the instance's own dictionary, not a copy."""
    found: dict[str, Any] = _DICT.__get__(error)
    return found


def code_of(error: BaseException) -> Any:
    """Return the code of a SystemExit, which ``sys.exit`` was given."""
    return _CODE.__get__(error)


def status_of(error: BaseException) -> int:
    """Return the exit code of a process that ends by this SystemExit."""
    code = code_of(error)
    return int.__int__(code) & 0xFF if is_a(code, int) else int(code is not None)


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def set_traceback(error: BaseException, trace: TracebackType | None) -> None:
    """Change the traceback; None releases the frames, which hold arguments."""
    _TRACEBACK.__set__(error, trace)


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set the cause as ``raise error from cause`` does."""
    _CAUSE.__set__(error, cause)
    _SUPPRESS.__set__(error, True)


def group_of(error: BaseException) -> tuple[str, tuple[BaseException, ...]] | None:
    """Return message and parts of an exception group; None: it is none."""
    if GROUP is None or not is_a(error, GROUP):
        return None
    return _MESSAGE.__get__(error), tuple(_PARTS.__get__(error))


def origin_of(error: BaseException) -> tuple[BaseException | None, bool]:
    """Return the exception that a traceback shows before this one, and whether it is the direct cause."""
    cause = _CAUSE.__get__(error)
    if cause is not None:
        return cause, True
    return (None if _SUPPRESS.__get__(error) else _CONTEXT.__get__(error)), False


def notes_of(error: BaseException) -> list[str]:
    """Return the notes that ``add_note`` added."""
    notes: Any = attributes_of(error).get("__notes__")
    return [text_of(note) for note in notes] if type(notes) in (list, tuple) else []


# ---------------------------------------------------------------------- hooks


def text_of(value: object, show: Callable[[Any], str] = str) -> str:
    """Return ``str(value)`` or ``repr(value)`` as a plain string, whatever the hook raises or returns."""
    try:
        # Take the characters of a subclass of str, whose hooks may do anything.
        return str.__str__(show(value))
    except BaseException as problem:  # SystemExit as well: it ends the hook, not the process
        return f"<{show.__name__}() of {type_name(value)} raised {type_name(problem)}>"


def summary_of(error: BaseException) -> str:
    """Return ``Type: text``, as the last line of a traceback shows it."""
    text = text_of(error)
    return f"{type_name(error)}: {text}" if text else type_name(error)


def matches_kind(error: BaseException, kinds: tuple[Any, ...]) -> bool:
    """Tell whether an exception is of one of these classes; abstract base classes are asked through their
    hooks."""
    for kind in kinds:
        if is_a(error, kind):
            return True
        try:
            if isinstance(error, kind):
                return True
        except BaseException:
            pass
    return False


def report(error: BaseException) -> None:
    """Show an exception that has no caller to be raised in, as Python shows an uncaught one."""
    try:
        sys.excepthook(type(error), error, traceback_of(error))
    except BaseException as problem:
        sys.stderr.write(f"{summary_of(error)}\n(showing its traceback raised {type_name(problem)})\n")
