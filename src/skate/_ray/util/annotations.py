"""``ray.util.annotations``: decorators that say how stable an interface is. They return what they get."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from skate._ray._missing import missing

T = TypeVar("T")

__all__ = ["Deprecated", "DeveloperAPI", "PublicAPI", "RayDeprecationWarning"]


class RayDeprecationWarning(DeprecationWarning):
    """Something is about to go; see ``Deprecated``."""


def PublicAPI(*args: Any, **kwargs: Any) -> Any:
    """Say that an interface is public.

    Args:
        args: what is decorated, if there are no options.
        kwargs: ``stability``, ``api_group``: for readers.

    Returns:
        The same object.
    """
    return _plain(args, kwargs, {"stability", "api_group"}, "PublicAPI")


def DeveloperAPI(*args: Any, **kwargs: Any) -> Any:
    """Say that an interface is for those who build on the library. See ``PublicAPI``."""
    return _plain(args, kwargs, {"api_group"}, "DeveloperAPI")


def Deprecated(*args: Any, **kwargs: Any) -> Any:
    """Say that an interface is about to go.

    Args:
        args: what is decorated, if there are no options.
        kwargs: ``message``: what to use instead; ``warning``: whether a call or an instantiation warns.
    """
    if len(args) == 1 and not kwargs and callable(args[0]):
        return args[0]
    unknown = set(kwargs) - {"message", "warning"}
    if args or unknown:
        raise ValueError(f"Deprecated takes message and warning, got {sorted(unknown) or args}")

    def decorate(thing: T) -> T:
        return _warning(thing, str(kwargs.get("message", ""))) if kwargs.get("warning") else thing

    return decorate


def _plain(args: tuple[Any, ...], kwargs: dict[str, Any], known: set[str], name: str) -> Any:
    if len(args) == 1 and not kwargs and callable(args[0]):
        return args[0]
    unknown = set(kwargs) - known
    if args or unknown:
        raise ValueError(f"{name} takes {sorted(known)}, got {sorted(unknown) or args}")
    return lambda thing: thing


def _warning(thing: Any, message: str) -> Any:
    """Make every use of an object raise a warning."""
    import functools

    def tell() -> None:
        name = getattr(thing, "__qualname__", repr(thing))
        warnings.warn(f"{name} is deprecated. {message}".strip(), RayDeprecationWarning, stacklevel=3)

    if isinstance(thing, type):
        before: Callable[..., None] = thing.__init__  # type: ignore[misc]

        @functools.wraps(before)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            tell()
            before(self, *args, **kwargs)

        thing.__init__ = init  # type: ignore[misc]
        return thing

    @functools.wraps(thing)
    def call(*args: Any, **kwargs: Any) -> Any:
        tell()
        return thing(*args, **kwargs)

    return call


def __getattr__(name: str) -> object:
    return missing(__name__, name)
