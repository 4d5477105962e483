"""Exceptions that do everything to get lost: they refuse, raise, recurse and lie, wherever Python lets them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every attribute, ``__traceback__`` too."""

    user: str


class Slots(Exception):
    __slots__ = ("number", "__hidden")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.__hidden = number

    @property
    def hidden(self) -> int:
        return self.__hidden


def _raising(*names: str, raises: type[BaseException] = RuntimeError) -> Any:
    """Return a class whose hooks of these names raise."""

    def hook(self: Any, *args: Any) -> Any:
        raise raises("of a hook")

    members: dict[str, Any] = dict.fromkeys(names, hook)
    for name in names:
        if not name.endswith("__") or name in ("__class__", "__traceback__", "__cause__", "__context__",
                                               "__notes__"):  # fmt: skip
            members[name] = property(hook)
    kind = type(
        f"Raising_{'_'.join(name.strip('_') for name in names)}_{raises.__name__}", (Exception,), members
    )
    kind.__module__ = __name__
    globals()[kind.__name__] = kind  # so that it is found by name
    return kind


ALL = ("__str__", "__repr__", "__bool__", "__len__", "__eq__", "__hash__", "__setattr__", "__delattr__",
       "__getattribute__", "__getattr__", "__format__", "__reduce__", "__reduce_ex__", "__getstate__",
       "__class__", "__traceback__", "__cause__", "__context__", "__notes__", "args", "cause", "pid",
       "with_traceback", "add_note", "__dir__", "__sizeof__", "__iter__", "__call__", "__await__")  # fmt: skip


class Recursing(Exception):
    def __str__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return repr(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self, name)


class WrongTypes(Exception):
    def __str__(self) -> Any:
        return 5

    def __repr__(self) -> Any:
        return None

    def __bool__(self) -> Any:
        return "yes"

    def __reduce__(self) -> Any:
        return 5

    def __hash__(self) -> Any:
        return "hash"


class False_(Exception):
    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class Lies(Exception):
    """Says that it is something else, which would end an actor."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return SystemExit

    @__class__.setter
    def __class__(self, value: Any) -> None:
        pass


class Text(str):
    def __format__(self, how: str) -> str:
        raise RuntimeError("no format")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> Any:
        raise RuntimeError("no way")


class StrSubclass(Exception):
    def __str__(self) -> str:
        return Text("of a subclass")


class Holds(Exception):
    """Has something that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.kept = "kept"


class Stuck:
    """Can be unpickled where it was made only."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["pid"] != os.getpid():
            raise SystemExit("not here")
        self.__dict__.update(state)


class CannotArrive(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text, Stuck())
        self.stuck = Stuck()
        self.kept = "kept"


class LoadsWrong(Exception):
    """Becomes something else when it is unpickled."""

    def __reduce__(self) -> Any:
        return str, ("no exception at all",)


class LoadRaises(Exception):
    def __reduce__(self) -> Any:
        return _refuse, (os.getpid(),)


def _refuse(pid: int) -> Any:
    raise KeyboardInterrupt


class Meta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        raise RuntimeError("no instances")

    def __hash__(cls) -> int:
        raise RuntimeError("no hash")

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("not equal")

    @property
    def __name__(cls) -> Any:  # type: ignore[override]
        raise RuntimeError("no name")


class OfMeta(Exception, metaclass=Meta):
    pass


class Mine(BaseException):
    pass


class OwnExit(SystemExit):
    """Nobody's exit: only its name says so to whoever looks at names."""

    @property
    def code(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no code")


class CauseProperty(Exception):
    """Has properties where RayTaskError has fields."""

    cause = property(lambda self: "mine")
    pid = property(lambda self: -1)
    function_name = property(lambda self: 1 / 0)


def _chained(count: int) -> Exception:
    last = ValueError("0")
    for number in range(1, count):
        error = ValueError(str(number))
        error.__cause__ = last
        last = error
    return last


def _circle() -> Exception:
    one, two = ValueError("one"), KeyError("two")
    one.__context__, two.__context__ = two, one
    one.myself = [one]  # type: ignore[attr-defined]
    return one


def _noted() -> Exception:
    error = ValueError("noted")
    error.__notes__ = ["a note", Text("evil")]
    return error


def _deep() -> Exception:
    error = ValueError("deep")
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    error.nested = nested  # type: ignore[attr-defined]
    return error


class TwoArguments(Exception):
    """Its args are not what it is made of."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


#: Name to a function that makes one.
AWKWARD: dict[str, Callable[[], BaseException]] = {
    "two arguments": lambda: TwoArguments(1, 2),
    "frozen": lambda: Frozen("someone"),
    "slots": lambda: Slots(3),
    "recursing": lambda: Recursing("r"),
    "wrong_types": lambda: WrongTypes("w"),
    "false": lambda: False_("f"),
    "lies": lambda: Lies("l"),
    "str_subclass": lambda: StrSubclass("s"),
    "holds": lambda: Holds("h"),
    "cannot_arrive": lambda: CannotArrive("c"),
    "loads_wrong": lambda: LoadsWrong("l"),
    "load_raises": lambda: LoadRaises("l"),
    "meta": lambda: OfMeta("m"),
    "base": lambda: Mine("b"),
    "cause_property": lambda: CauseProperty("c"),
    "native_with_lock": lambda: ValueError("v", threading.Lock()),
    "chain": lambda: _chained(2_000),
    "circle": _circle,
    "noted": _noted,
    "deep": _deep,
    "interrupt": lambda: KeyboardInterrupt("k"),
    "generator_exit": lambda: GeneratorExit("g"),
}
for _name in ALL:
    _kind = _raising(_name)
    AWKWARD[_name.strip("_")] = lambda kind=_kind: kind.__new__(kind, "x")
for _raises in (SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError, StopIteration):
    _kind = _raising(*(name for name in ALL if name != "args"), raises=_raises)
    AWKWARD[f"all_{_raises.__name__}"] = lambda kind=_kind: kind.__new__(kind, "x")
if sys.version_info >= (3, 11):
    AWKWARD["group"] = lambda: BaseExceptionGroup(  # noqa: F821
        "several", [Holds("h"), Frozen("f"), AWKWARD["str"](), AWKWARD["bool"]()]
    )


def make(name: str) -> BaseException:
    """Return a new one."""
    return AWKWARD[name]()


def type_of(name: str) -> type[BaseException]:
    """Return the type that must arrive."""
    return type(make(name))
