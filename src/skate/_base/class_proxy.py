"""Provides an object that stands for a class and behaves as that class wherever an object can.

``@remote`` puts an actor class where the program had a class, and the program goes on using the name: for
constants, static and class methods, ``isinstance``, ``super(Name, self)``, annotations. ``ClassProxy``
answers all of it from the class below. A few uses need a real type and stay impossible: ``issubclass`` with
an abstract base as its second argument, class patterns of ``match``, ``except``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_type_hints

C = TypeVar("C")

if TYPE_CHECKING:

    class _Base(Generic[C]):
        __wrapped__: type[C]
else:
    # Not ``Generic``: it has attributes (``__parameters__``) that would hide those of the class.
    class _Base:
        def __class_getitem__(cls, item: Any) -> type:
            return cls


class _Doc:
    """Returns the docstring of a proxy class; on a proxy, the docstring of the class behind it."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def __get__(self, proxy: Any, owner: Any) -> str | None:
        return self._text if proxy is None else proxy.__wrapped__.__doc__

    def __set__(self, proxy: Any, text: str | None) -> None:
        proxy.__wrapped__.__doc__ = text


class _Hidden:
    """The thread whose code finds nothing through proxies; see ``hidden``."""

    thread = 0
    lock = RLock()


@contextmanager
def hidden() -> Iterator[None]:
    """Find no attributes of classes through their proxies, in this thread.

    For picklers that know no proxies. They look a method up by the class's name, find it through the proxy,
    and pickle its name alone. Elsewhere the name leads to another class than the one that was pickled, and
    ``super()`` in the method fails.
    """
    with _Hidden.lock:
        before, _Hidden.thread = _Hidden.thread, get_ident()
        try:
            yield
        finally:
            _Hidden.thread = before


class ClassProxy(_Base[C]):
    """Answers for the class that it stands for. Its own attributes have special names, so that it hides none
    of the class's."""

    def __init_subclass__(cls) -> None:
        cls.__doc__ = _Doc(cls.__doc__)  # type: ignore[assignment]

    def __init__(self, cls: type[C]) -> None:
        own = super().__setattr__
        # ``inspect`` knows this name: signature and source are those of the class.
        own("__wrapped__", cls)
        own("__module__", cls.__module__)

    # ------------------------------------------------------------------ attributes

    def __getattr__(self, name: str) -> Any:
        if _Hidden.thread == get_ident():
            raise AttributeError(name)
        return getattr(object.__getattribute__(self, "__wrapped__"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)

    def __dir__(self) -> Iterable[str]:
        return sorted({*dir(self.__wrapped__), *(name for name in dir(type(self)) if name[:1] != "_")})

    # Attributes that ``type(self)`` has too, and would answer for itself.

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return self.__wrapped__.__dict__

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the annotations of the class and of its bases, as ``get_type_hints`` resolves them.
        ``get_type_hints`` cannot do so by itself: it looks for names of the module only when it has a
        type."""
        try:
            return get_type_hints(self.__wrapped__, include_extras=True)
        except Exception:  # a name that is not defined, or only for type checkers
            return dict(getattr(self.__wrapped__, "__annotations__", {}))

    # ------------------------------------------------------------------ as a class

    @property
    def __bases__(self) -> tuple[type, ...]:
        """Return the class itself: ``issubclass(proxy, cls)`` holds, and so does ``issubclass`` of its
        bases."""
        return (self.__wrapped__,)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.__wrapped__)

    def __subclasscheck__(self, subclass: Any) -> bool:
        return issubclass(behind(subclass), self.__wrapped__)

    def __or__(self, other: Any) -> Any:
        return Union[self, other]  # noqa: UP007

    def __ror__(self, other: Any) -> Any:
        return Union[other, self]  # noqa: UP007

    #: Its ``__getitem__`` would make it look like a sequence.
    __iter__ = None
    __contains__ = None

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


def behind(value: Any) -> Any:
    """Return the class that a proxy stands for, and anything else as it is."""
    return value.__wrapped__ if isinstance(value, ClassProxy) else value


class ProxySuper(super):
    """Takes the place of ``super`` in functions whose module has a proxy under a class's name; its first
    argument may be the proxy.

    The pickler of such a function puts ``ProxySuper`` among the function's globals, under the name ``super``:
    see ``_serialize.callables``.
    """

    def __init__(self, *args: Any) -> None:
        if args:
            super().__init__(behind(args[0]), *args[1:])
            return
        # Without arguments, ``super`` looks at the frame that calls it, which would be this one.
        frame = sys._getframe(1)
        code, names = frame.f_code, frame.f_locals
        if not code.co_argcount or "__class__" not in names:
            raise RuntimeError("super(): no arguments")
        super().__init__(names["__class__"], names[code.co_varnames[0]])


def is_below_proxy(value: Any) -> bool:
    """Tell whether a class or function is found by its name only through a proxy, as the nested classes and
    the methods of an actor class are.

    Another process finds such an object no better than the class below the proxy, whose name means the proxy.
    """
    qualname = getattr(value, "__qualname__", "")
    if "." not in qualname:
        return False
    *path, _ = qualname.split(".")
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for name in path:
        found = getattr(found, name, None)
        if isinstance(found, ClassProxy):
            return True
    return False
