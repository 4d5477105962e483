"""Makes classes that are RayTaskError and the user's own type at once.

The classes inherit the user's properties and methods, so that ``except`` clauses find the attributes that
they expect. But Python and the runtime set attributes of an exception, test its truth and print it, and a
hook of the user's class that refuses would lose the error. So the hooks that Python itself needs are Python's
own again, and the others do not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate._base.user_errors import attributes_of, found_in, full_name, is_a, text_of, type_name

#: Attributes that Python sets and reads. They work as in every exception, even if the user's type redefines
#: them.
_PYTHONS = {
    name: BaseException.__dict__.get(name, getattr(object, name, None))
    for name in ("__getattribute__", "__setattr__", "__delattr__", "__traceback__", "__cause__",
                 "__context__", "__suppress_context__")
}  # fmt: skip
#: Attributes of task errors, which hide attributes of the user's type with the same name.
_FIELDS = ("function_name", "traceback_str", "cause", "proctitle", "pid", "ip", "actor_repr", "actor_id",
           "__notes__")  # fmt: skip

#: The module under which users find the classes.
MODULE = "skate.exceptions"
#: The classes by the id of the user's type, which they keep alive. A metaclass may forbid to hash the type
#: itself.
_made: dict[tuple[int, int], Any] = {}


def forget() -> None:
    """Forget the classes made so far, since the class of all task errors has moved; later calls make new
    ones."""
    _made.clear()


def dual_type(task_error: Any, cause_type: type[BaseException]) -> Any:
    """Return the class that is both. It is made once for each type, so that all tracebacks name the same
    class."""
    key = id(task_error), id(cause_type)
    dual = _made.get(key)
    if dual is None:
        dual = _made[key] = _make(task_error, cause_type)
    return dual


def _make(task_error: Any, cause_type: Any) -> Any:
    short = full_name(cause_type).rpartition(".")[2]
    name = f"RayTaskError({short})"
    module = task_error.__module__
    members: dict[str, Any] = {
        # The module of the class of all task errors: Ray's name in programs that run under that name.
        "__module__": module if module != MODULE else type.__dict__["__module__"].__get__(cause_type),
        "__init__": lambda self, *a, **k: None,
        "__getattr__": _of_cause,
        "__class__": object.__dict__["__class__"],
    }
    for hook, plain in _PYTHONS.items():
        if found_in(cause_type, hook) is not None:
            members[hook] = plain
    for hook, otherwise in _FALLBACKS.items():
        own = found_in(cause_type, hook)
        if own is not None and callable(own):
            members[hook] = _guarded(own, *otherwise)
    if "__bool__" not in members and found_in(cause_type, "__len__") is not None:
        members["__bool__"] = _guarded(lambda error: len(error) > 0, bool, _true)
    for field in _FIELDS:
        if hasattr(type(found_in(cause_type, field)), "__set__"):  # a property or slot would come first
            members[field] = _field(field)
    dual = type(name, (task_error, cause_type), members)
    type.__setattr__(dual, "__qualname__", name)
    return dual


def _of_cause(error: Any, name: str) -> Any:
    """Return an attribute of the cause that the error lacks, which the cause's __getattr__ computes."""
    held = attributes_of(error)
    if name.startswith("__") or "cause" not in held:
        raise AttributeError(f"{type_name(error)!r} object has no attribute {name!r}")
    return getattr(held["cause"], name)


def _field(name: str) -> property:
    def read(error: Any) -> Any:
        try:
            return attributes_of(error)[name]
        except KeyError:
            raise AttributeError(name) from None

    return property(read, lambda error, value: attributes_of(error).__setitem__(name, value))


# ---------------------------------------------------------------------- hooks that do not raise


def _guarded(own: Callable[..., Any], kind: type, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    def hook(self: Any, *args: Any) -> Any:
        try:
            found = own(self, *args)
        except BaseException:  # SystemExit too: the error itself comes first
            return otherwise(self, *args)
        return found if is_a(found, kind) else otherwise(self, *args)

    return hook


def _true(error: Any) -> bool:
    return True


def _repr(error: Any) -> str:
    return text_of(error, BaseException.__repr__)


def _format(error: Any, how: str) -> str:
    return format(str(error), how)


def _same(error: Any, other: Any) -> bool:
    return error is other


def _other(error: Any, other: Any) -> bool:
    return error is not other


#: Each hook, the type that it must return, and its replacement if it returns something else.
_FALLBACKS: dict[str, tuple[type, Callable[..., Any]]] = {
    "__bool__": (bool, _true),
    "__repr__": (str, _repr),
    "__format__": (str, _format),
    "__eq__": (object, _same),
    "__ne__": (object, _other),
    "__hash__": (int, object.__hash__),
}
