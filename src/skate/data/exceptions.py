"""The errors of ``skate.data``.

::

    DataError                   data, options or limits are at fault
    ├── SchemaMismatchError     blocks that should go together have columns of different types
    ├── RowTimeoutError         a call took longer than ``timeout_per_row`` allows
    ├── RowCrashedError         a call ended its process
    ├── UserExitError           a call ended with ``sys.exit``
    └── TooManyErrorsError      more rows failed than ``max_errors`` allows
    RayDataUserCodeException    a user's function raised; also an instance of the type that it raised

An error of a user's function reaches the caller as an instance of its own type, so ``except KeyError``
works, and says which row of which file failed in which operation. ``__cause__`` is the exception itself.
"""

from __future__ import annotations

import functools
import sys
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from skate.data._previews import cell, preview, short
from skate.exceptions import RayTaskError, UserCodeException

__all__ = [
    "DataError",
    "ExecutionTimeoutError",
    "RayDataUserCodeException",
    "RowCrashedError",
    "RowTimeoutError",
    "SchemaMismatchError",
    "SystemException",
    "TooManyErrorsError",
    "UserCodeException",
    "UserExitError",
    "omit_traceback_stdout",
]

#: Most characters of an exception's own text in a message.
_MAX_ERROR_TEXT = 2000
#: Attributes that each user code error has of its own.
_FIELDS = ("stage", "row", "path", "row_id", "cause", "traceback_str", "message")

_Function = TypeVar("_Function", bound=Callable[..., Any])


class DataError(Exception):
    """Base of the errors of ``skate.data`` that are not an exception of a user's function."""


class SchemaMismatchError(DataError, ValueError):
    """Blocks that belong to one data set have columns of types that do not go together."""


class RowTimeoutError(DataError, TimeoutError):
    """A user's function took longer than ``timeout_per_row`` allows; its process was killed."""


class RowCrashedError(DataError):
    """A function or a decoder ended its process: by a signal (a crash, too little memory), or it exited.

    It ran in a process of its own, because of ``timeout_per_row`` or since it had ended a task's before.
    """


class UserExitError(DataError):
    """A user's function called ``sys.exit`` or raised SystemExit.

    Args:
        code: what it was given.
    """

    def __init__(self, code: Any = None) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the function called sys.exit({'' if self.code is None else repr(self.code)})"


class TooManyErrorsError(DataError):
    """More rows failed than ``max_errors`` allows."""


class RecordedError(Exception):
    """The error of a dead letter of an earlier run: what ``type_name`` and ``describe`` said of it."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


class SystemException(Exception):
    """Never raised: Ray's name for an error of its own internals, for programs that import it."""


class ExecutionTimeoutError(Exception):
    """An execution made no progress for as long as its context allows."""


class UserTraceback(Exception):
    """The traceback of an exception that came from another process, as text: the cause of that exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text.rstrip()}\n"


class RayDataUserCodeException(UserCodeException):
    """A user's function raised.

    The raised error is an instance of a subclass that derives from the function's own exception type as well,
    with the same ``args`` and attributes.

    Attributes:
        stage: the operation: ``"Map(parse)"``.
        row: the row as it was before the call; None for a batch.
        path: file that the row came from, or "".
        row_id: ``"<task>:<n>"``, or ``"<task>:<first>-<last>"`` for a batch.
        cause: the exception that the function raised.
        traceback_str: its traceback, formatted where it was raised.

    Example:
        >>> try:
        ...     skate.data.from_items([{"n": 0}]).map(lambda row: {"x": 1 / row["n"]}).take()
        ... except ZeroDivisionError as error:
        ...     print(error.stage, error.row)
        Map(<lambda>) {'n': 0}
    """

    stage: str
    row: Mapping[str, Any] | None
    path: str
    row_id: str
    cause: BaseException
    traceback_str: str
    message: str

    # Python and the runtime set attributes of an exception; a class of a user may refuse or hide them.
    __getattribute__ = BaseException.__getattribute__
    __setattr__ = BaseException.__setattr__
    __delattr__ = BaseException.__delattr__
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass  # the constructor of the user's type is not ours to call: ``wrap`` fills the fields

    def __getattr__(self, name: str) -> Any:
        # Slots, and what the class of the user computes in its own ``__getattr__``.
        cause = self.__dict__.get("cause")
        if cause is None or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(cause, name)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return self.__dict__.get("message") or Exception.__str__(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        held = self.__dict__
        fields = {name: held.get(name) for name in _FIELDS if name not in ("cause", "row")}
        return _rebuild, (
            _packed(self.cause),
            packed_value(self.row),
            fields,
            isinstance(self, RayTaskError),
        )

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()  # not the one of the user's type


# ---------------------------------------------------------------------- making them


def wrap(
    error: BaseException,
    stage: str,
    row: Mapping[str, Any] | None = None,
    path: str = "",
    row_id: str = "",
    text: str | None = None,
    has_policy: bool = True,
) -> Exception:
    """Return the error of a user's function as its caller should see it.

    Args:
        error: what the function raised; one that is wrapped already is returned as it is.
        stage: the operation: ``"Map(parse)"``.
        row: the row that it was called for; None: a batch, or there was none yet.
        path: file that the row came from, or "".
        row_id: ``"<task>:<n>"`` or, for a batch, ``"<task>:<first>-<last>"``.
        text: the traceback, if it is known as text alone; None: that of ``error``.
        has_policy: the operation has an option ``on_error``.

    Returns:
        An instance of RayDataUserCodeException and, if Python allows it, of the type of ``error``.

    Example:
        >>> isinstance(wrap(KeyError("a"), "Map(f)", {"b": 1}, "", "0.0:7"), KeyError)
        True
    """
    if isinstance(error, RayDataUserCodeException):
        return error
    if isinstance(error, SystemExit):
        error = _as_cause(UserExitError(error.code), error)
    traceback_str = traceback_text(error) if text is None else text
    fields = {
        "stage": stage,
        "path": path,
        "row_id": row_id,
        "traceback_str": traceback_str,
        "message": _message(error, stage, row, path, row_id, has_policy),
    }
    return _made(error, row, fields, as_task=False)


def for_caller(error: BaseException) -> BaseException:
    """Return an error as the call that consumes a data set should raise it.

    Programs written for Ray catch RayTaskError, so a user's error becomes an instance of that, too. Do this
    last, in
    the driver: inside a task the runtime takes a RayTaskError for the error of another task.
    """
    while isinstance(error, RayTaskError) and isinstance(error.cause, RayDataUserCodeException):
        error = error.cause  # it came from a worker: said in the words of the runtime
    if not isinstance(error, RayDataUserCodeException) or isinstance(error, RayTaskError):
        return error
    held = error.__dict__
    fields = {name: held.get(name) for name in _FIELDS if name not in ("cause", "row")}
    # Without the frames of the executor: those of the user's function are its cause's.
    return _made(error.cause, error.row, fields, as_task=True)


def describe(error: BaseException) -> str:
    """Return type and text of an exception in a line or a few; never raises.

    Example:
        >>> describe(KeyError("a"))
        "KeyError: 'a'"
    """
    if isinstance(error, RayDataUserCodeException):
        error = error.cause
    if isinstance(error, RecordedError):
        return error.text
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as problem:
        text = f"(its text raises {type(problem).__name__})"
    if len(text) > _MAX_ERROR_TEXT:
        text = f"{text[:_MAX_ERROR_TEXT]}... ({len(text)} characters)"
    return f"{name}: {text}" if text else name


def type_name(error: BaseException) -> str:
    """Return the qualified name of an exception's type, the user's own: ``"json.JSONDecodeError"``."""
    if isinstance(error, RecordedError):
        return error.kind
    kind = type(error.cause if isinstance(error, RayDataUserCodeException) else error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def traceback_text(error: BaseException) -> str:
    """Return the formatted traceback of an exception, from the first frame outside of ``skate.data``."""
    try:
        return "".join(traceback.format_exception(type(error), error, _outside(error.__traceback__)))
    except BaseException:
        return describe(error) + "\n"


def omit_traceback_stdout(fn: _Function) -> _Function:
    """Return a function that does the same: Ray's decorator that shortens logs; here they are short."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call  # type: ignore[return-value]


# ---------------------------------------------------------------------- the text


def _message(
    error: BaseException,
    stage: str,
    row: Mapping[str, Any] | None,
    path: str,
    row_id: str,
    has_policy: bool,
) -> str:
    task, _, number = row_id.rpartition(":")
    what = ""
    if number:
        first, _, last = number.partition("-")
        where = f"row {first}" if not last or first == last else f"a batch, rows {first} to {last}"
        what = f" at {where} of task {task}" if task else f" at {where}"
    source = f", from {path}" if path else ""
    shown = f" ({preview(row)})" if row else ""
    more_time = "; to allow more time, a larger timeout_per_row" if isinstance(error, RowTimeoutError) else ""
    failed = f"{describe(error)}\n{stage} failed{what}{source}{shown}."
    if not has_policy:
        return failed
    return (
        f'{failed} To go on without such rows and keep them for later, use on_error="dead_letter"; to leave '
        f'them out, on_error="skip"{more_time}.'
    )


def _outside(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("skate.data."):
        trace = trace.tb_next
    return trace


# ---------------------------------------------------------------------- both types in one

#: The classes by the id of the user's type, which they keep alive as long as an instance lives.
_kinds: weakref.WeakValueDictionary[tuple[int, bool], Any] = weakref.WeakValueDictionary()


def _made(error: BaseException, row: Any, fields: Mapping[str, Any], as_task: bool) -> Exception:
    try:
        made = _instance(_kind(type(error), as_task), error)
    except BaseException:
        # The type forbids subclasses, or its layout does not go with others: the cause has it at least.
        made = _instance(_kind(None, as_task), error)
    held = made.__dict__
    held.update(getattr(error, "__dict__", {}))
    held.update(fields)
    held["row"] = row
    held["cause"] = error
    if as_task:
        held.update(function_name=fields["stage"], proctitle=None, pid=None, ip=None, actor_repr=None)
        held["actor_id"] = None
    return _as_cause(made, error)


def _as_cause(made: Exception, cause: BaseException) -> Exception:
    set_field(made, "__cause__", cause)
    return made


def set_field(error: BaseException, name: str, value: Any) -> None:
    """Set a field of an exception (``__cause__``, ``__traceback__``), whatever its class says to that."""
    BaseException.__setattr__(error, name, value)


def _kind(cause: type[BaseException] | None, as_task: bool) -> Any:
    key = (id(cause), as_task)
    kind = _kinds.get(key)
    if kind is None:
        bases: tuple[type, ...] = (RayDataUserCodeException, *((RayTaskError,) if as_task else ()))
        name = "UserCodeException"
        # One that ends a generator or a coroutine may not be raised as an error in one.
        if cause is not None and issubclass(cause, (StopIteration, StopAsyncIteration, *cancellations())):
            cause = None
        if cause is not None and not any(issubclass(base, cause) for base in bases):
            bases, name = (*bases, cause), f"{name}({cause.__name__})"
        # Programs that say ``import ray`` see its name of this module.
        members = {"__module__": RayDataUserCodeException.__module__, "__qualname__": name}
        kind = _kinds[key] = type(name, bases, members)
    return kind


def cancellations() -> tuple[type[BaseException], ...]:
    """Return asyncio's CancelledError, if this process has asyncio: it takes 20 ms to load."""
    asyncio = sys.modules.get("asyncio")
    return () if asyncio is None else (asyncio.CancelledError,)


def _native(kind: type) -> Any:
    """Return the built-in exception type whose layout a class has."""
    while kind.__module__ != "builtins":
        kind = kind.__base__  # type: ignore[assignment]
    return kind


def _instance(kind: Any, error: BaseException) -> Exception:
    """Make an instance with the ``args`` of an error; no code of the user's class runs."""
    args, fields = _parts(error)
    made: Exception = _bare(kind, args)
    for name, value in fields.items():
        try:
            set_field(made, name, value)
        except Exception:
            pass  # read-only
    return made


def _bare(kind: type, args: Sequence[Any]) -> Any:
    native = _native(kind)
    made = native.__new__(kind, *args)
    native.__init__(made, *args)
    return made


def _parts(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the built-in type of an exception makes an equal one of: arguments and attributes."""
    try:
        # Not ``args``, which lacks the file of an OSError.
        _, args, *state = _native(type(error)).__reduce__(error)
    except Exception:
        return error.args, dict(vars(error))
    return args, dict(state[0]) if state and state[0] else {}


# ---------------------------------------------------------------------- between processes


def _cloudpickle() -> Any:
    # The first error that travels imports it, and the session's objects with it: small plans do without.
    from skate import cloudpickle

    return cloudpickle


def _packed(error: BaseException) -> tuple[str, Any]:
    """Return an exception as data that always pickles: whole, in parts, or as text."""
    kind = type(error)
    hooks = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")
    own = any(
        name in base.__dict__ for base in kind.__mro__ if base.__module__ != "builtins" for name in hooks
    )
    try:
        if own:
            whole = _cloudpickle().dumps(error)
            _cloudpickle().loads(whole)
            return "whole", whole
        # A constructor often takes something else than ``args``: made again without it.
        args, fields = _parts(error)
        packed = {name: packed_value(value) for name, value in fields.items()}
        parts = _cloudpickle().dumps((kind, [packed_value(one) for one in args], packed))
        _cloudpickle().loads(parts)
        return "parts", parts
    except BaseException:
        return "text", describe(error)


def packed_value(value: Any) -> tuple[bool, Any]:
    """Return a value as plain data or bytes; one that cannot be pickled becomes its text."""
    if value is None or type(value) in (int, float, str, bool, bytes):
        return False, value
    try:
        return True, _cloudpickle().dumps(value)
    except BaseException:
        return False, short(cell(value))


def unpacked_value(packed: tuple[bool, Any]) -> Any:
    """Return what ``packed_value`` packed; never raises."""
    pickled, value = packed
    if not pickled:
        return value
    try:
        return _cloudpickle().loads(value)
    except BaseException as problem:
        return f"<cannot be unpickled here: {type(problem).__name__}>"


def _unpacked(packed: tuple[str, Any]) -> BaseException:
    form, data = packed
    if form == "text":
        return UserCodeException(f"{data} (the exception itself cannot be pickled)")
    try:
        found = _cloudpickle().loads(data)
        if form == "whole":
            return found if isinstance(found, BaseException) else UserCodeException(repr(found))
        kind, args, attributes = found
        error: BaseException = _bare(kind, [unpacked_value(one) for one in args])
        for name, value in attributes.items():
            set_field(error, name, unpacked_value(value))
        return error
    except BaseException as problem:
        return UserCodeException(f"an exception that cannot be unpickled here ({describe(problem)})")


def _rebuild(
    packed: tuple[str, Any], row: tuple[bool, Any], fields: dict[str, Any], as_task: bool
) -> Exception:
    cause = _unpacked(packed)
    set_field(cause, "__cause__", UserTraceback(fields["traceback_str"]))
    return _made(cause, unpacked_value(row), fields, as_task)
