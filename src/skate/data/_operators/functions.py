"""Functions and classes of users, as operators carry and call them."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skate.data._block.batches import BATCH_FORMATS, from_batch, to_batch
from skate.data._operators.identity import identity, is_known
from skate.data._previews import cell, kind
from skate.data.exceptions import wrap

if TYPE_CHECKING:
    import pyarrow as pa

#: Methods of values that a function may return lazily.
_MADE_BY_NEXT = "__next__"
_CALL = "__call__"


@dataclass(frozen=True)
class UserFunction:
    """A function, or a class whose instances are called, with its arguments beside a row or batch.

    Attributes:
        fn: the function or class.
        args: positional arguments after the row or batch.
        kwargs: keyword arguments of each call.
        constructor_args: of a class.
        constructor_kwargs: of a class.

    Example:
        >>> UserFunction.of(lambda row, n: {"n": n}, fn_args=[5]).instantiate()({})
        {'n': 5}
    """

    fn: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    constructor_args: tuple[Any, ...] = ()
    constructor_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        fn: Any,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        verb: str = "map",
    ) -> UserFunction:
        """Return what a verb was given, checked.

        Args:
            fn: a function, a class with ``__call__``, or any other callable object.
            fn_args: positional arguments after the row or batch.
            fn_kwargs: keyword arguments of each call.
            fn_constructor_args: positional arguments of the class's constructor.
            fn_constructor_kwargs: keyword arguments of the class's constructor.
            verb: names the method in errors.

        Raises:
            TypeError: ``fn`` cannot be called, or an argument is no sequence or mapping.
            ValueError: constructor arguments for something that is no class.
        """
        if not callable(fn):
            raise TypeError(f"{verb}(fn) takes a function or a class, not {kind(fn)}: {cell(fn)}")
        if isinstance(fn, type):
            if not _has_call(fn):
                raise TypeError(
                    f"{verb}(fn): instances of the class {fn.__name__} cannot be called: define __call__"
                )
        else:
            for name, given in (
                ("fn_constructor_args", fn_constructor_args),
                ("fn_constructor_kwargs", fn_constructor_kwargs),
            ):
                if given:
                    raise ValueError(
                        f"{verb}({name}=...) goes with a class, but fn is a function ({_name(fn)}): pass its "
                        "arguments as fn_args or fn_kwargs"
                    )
        for name, given in (("fn_args", fn_args), ("fn_constructor_args", fn_constructor_args)):
            if given is not None and (
                isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable)
            ):
                raise TypeError(f"{verb}({name}=...) takes a list or tuple, not {kind(given)}: {cell(given)}")
        for name, given in (("fn_kwargs", fn_kwargs), ("fn_constructor_kwargs", fn_constructor_kwargs)):
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"{verb}({name}=...) takes a dict, not {kind(given)}: {cell(given)}")
            for key in given or ():
                if not isinstance(key, str):
                    raise TypeError(f"{verb}({name}=...) takes a dict by names of parameters, not by {key!r}")
        made = cls(
            fn,
            () if fn_args is None else tuple(fn_args),
            dict(fn_kwargs or {}),
            () if fn_constructor_args is None else tuple(fn_constructor_args),
            dict(fn_constructor_kwargs or {}),
        )
        _check_parameters(made, verb)
        return made

    @property
    def name(self) -> str:
        """For people: ``"embed"``, ``"<lambda>"``, ``"Model"``."""
        return _name(self.fn)

    @property
    def is_class(self) -> bool:
        """Instances are called: it runs on a pool."""
        return isinstance(self.fn, type)

    @property
    def is_async(self) -> bool:
        """Calls return coroutines or async generators."""
        called = _called(self.fn)
        return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)

    @property
    def is_generator(self) -> bool:
        """Calls return generators or async generators."""
        called = _called(self.fn)
        return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)

    def key(self) -> str:
        """Return what identifies the function in a plan's hash: it changes with its source or its arguments.

        Functions that it calls and values of its module do not count, values that it closes over do.
        """
        digest = hashlib.blake2b(digest_size=16)
        for part in self._identities():
            digest.update(part)
            digest.update(b"|")
        return f"{_qualified(self.fn)}:{digest.hexdigest()}"

    def has_key(self) -> bool:
        """Tell whether the key changes with all that it should: not if something cannot be pickled."""
        return all(map(is_known, self._identities()))

    def _identities(self) -> list[bytes]:
        parts = (
            self.fn,
            self.args,
            sorted(self.kwargs.items()),
            self.constructor_args,
            sorted(self.constructor_kwargs.items()),
        )
        return [identity(part) for part in parts]

    def make(self) -> Any:
        """Return the function, or a new instance of the class.

        Raises:
            Exception: the constructor raised; an instance of its type and of RayDataUserCodeException.
        """
        if not self.is_class:
            return self.fn
        try:
            return self.fn(*self.constructor_args, **self.constructor_kwargs)
        except (Exception, SystemExit) as error:
            raise wrap_constructor(error, self.name) from error

    def bind(self, target: Any) -> Callable[[Any], Any]:
        """Return a callable of one argument, the row or batch, for what ``make`` returned."""
        args, kwargs = self.args, self.kwargs
        if not args and not kwargs:
            return target  # type: ignore[no-any-return]
        return lambda data: target(data, *args, **kwargs)

    def instantiate(self) -> Callable[[Any], Any]:
        """Return ``bind(make())``."""
        return self.bind(self.make())

    def __repr__(self) -> str:
        return f"UserFunction({self.name})"


def wrap_constructor(error: BaseException, name: str) -> Exception:
    """Return the error of a class's constructor, which no row is to blame for."""
    made = wrap(error, f"{name}()")
    if hasattr(made, "message"):
        made.message = (
            f"the constructor of {name} raised {type(error).__name__}: {error}\n"
            "It runs once in each replica, with fn_constructor_args and fn_constructor_kwargs."
        )
    return made


# ---------------------------------------------------------------------- groups


class GroupFunction:
    """A user's function over groups of rows: called with the rows of a group, it yields tables.

    Args:
        function: gets the group in the batch format, and returns a batch, or a generator of some.
        batch_format: "default" is pandas, as in Ray, whatever its documentation says.
        zero_copy_batch: the group may be read-only.
        stage: names the operation in errors; None: made of the function's name.

    Example:
        >>> count = GroupFunction(UserFunction.of(lambda frame: {"n": [len(frame)]}))
        >>> [table.to_pylist() for table in count(pyarrow.table({"a": [1, 2]}))]
        [[{'n': 2}]]
    """

    def __init__(
        self,
        function: UserFunction,
        batch_format: str | None = "default",
        zero_copy_batch: bool = True,
        stage: str | None = None,
    ) -> None:
        self.function = function
        self.batch_format = "pandas" if batch_format == "default" else batch_format
        if self.batch_format is not None:
            check_batch_format(self.batch_format, "map_groups")
        self.zero_copy_batch = zero_copy_batch
        self.stage = stage or f"MapGroups({function.name})"
        self._call: Callable[[Any], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Instances of the user's class are made where they run.
        return {**self.__dict__, "_call": None}

    def open(self) -> None:
        """Make the instance of a class now instead of at the first group."""
        if self._call is None:
            self._call = self.function.instantiate()

    def key(self) -> str:
        """Return what identifies it in a plan's hash."""
        return f"{self.function.key()}:{self.batch_format}"

    def __call__(self, group: pa.Table) -> Iterator[pa.Table]:
        self.open()
        assert self._call is not None
        batch = to_batch(group, self.batch_format, writable=not self.zero_copy_batch)
        try:
            result = self._call(batch)
            if self.function.is_async:
                import asyncio

                result = asyncio.run(_awaited(result))
            for made in results_of(result):
                yield from_batch(made, self.stage)
        except (Exception, SystemExit) as error:
            first = first_row(group)
            raise wrap(error, self.stage, first, has_on_error=False) from error


async def _awaited(result: Any) -> Any:
    if hasattr(result, "__aiter__"):
        return iter([item async for item in result])
    return await result


def first_row(group: pa.Table) -> dict[str, Any] | None:
    """Return the first row of a table for an error; None if there is none that can be shown."""
    from skate.data._block.rows import iter_rows

    try:
        return next(iter_rows(group.slice(0, 1)), None)
    except Exception:
        return None


def results_of(result: Any) -> Iterator[Any]:
    """Return an iterator over what a call returned: the items of a generator, or the one value."""
    return result if hasattr(result, _MADE_BY_NEXT) else iter((result,))


def check_batch_format(batch_format: Any, verb: str) -> None:
    """Raise ValueError for a batch format that there is not."""
    if batch_format not in BATCH_FORMATS:
        known = ", ".join(repr(name) for name in BATCH_FORMATS)
        raise ValueError(f"{verb}(batch_format={batch_format!r}): the formats are {known}")


# ---------------------------------------------------------------------- what a function is

#: The argument of a function by the verb that it is given to; the others give a row.
_CALLED_WITH = {"map_batches": "a batch", "map_groups": "the rows of a group"}


def _check_parameters(function: UserFunction, verb: str) -> None:
    """Raise TypeError if the function does not take what it will be called with, as far as is known."""
    fn = function.fn
    if isinstance(fn, type):
        call = inspect.getattr_static(fn, _CALL)
        before: tuple[Any, ...] = (None,)
        make = inspect.getattr_static(fn, "__init__")
        # A metaclass or __new__ may make anything of the arguments.
        is_plain = type(fn) is type and getattr(fn, "__new__", None) is object.__new__
        if is_plain and inspect.isfunction(make):
            given = (None, *function.constructor_args)
            how = "fn_constructor_args and fn_constructor_kwargs"
            what = f"{verb}(fn): {fn.__name__}.__init__"
            _check_bound(what, make, given, function.constructor_kwargs, how)
    elif inspect.isfunction(fn) or inspect.ismethod(fn):
        call, before = fn, ()
    else:
        call, before = inspect.getattr_static(type(fn), _CALL, None), (None,)
    if inspect.isfunction(call) or inspect.ismethod(call):
        how = _CALLED_WITH.get(verb, "a row")
        if function.args or function.kwargs:
            how += ", fn_args and fn_kwargs"
        _check_bound(
            f"{verb}(fn): {function.name}", call, (*before, None, *function.args), function.kwargs, how
        )


def _check_bound(what: str, call: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], how: str) -> None:
    if hasattr(call, "__signature__"):
        return  # it says something else than its code
    signature = inspect.signature(call, follow_wrapped=False)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{what}{signature} cannot be called with {how}: {error}") from None


def _has_call(kind: type) -> bool:
    return any(_CALL in base.__dict__ for base in kind.__mro__)


def _called(fn: Any) -> Any:
    """Return the function whose code runs in a call."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, type):
        return getattr(fn, _CALL, fn)
    if inspect.isfunction(fn) or inspect.ismethod(fn) or inspect.isbuiltin(fn):
        return fn
    return getattr(type(fn), _CALL, fn)


def _unwrapped(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _name(fn: Any) -> str:
    fn = _unwrapped(fn)
    found = getattr(fn, "__name__", None)
    return str(found) if found else type(fn).__name__


def _qualified(fn: Any) -> str:
    fn = _unwrapped(fn)
    where = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{where.__module__}.{where.__qualname__}"
