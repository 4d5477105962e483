"""Runs the calls of an ``Executor`` in a worker process, and keeps its state between them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from skate._base.user_errors import summary_of
from skate.util._copies import SHARED_BYTES, Packed, copy_of
from skate.util._namespaces import Receiver

#: How many executors a process remembers. A forgotten one is prepared again.
_MAX_EXECUTORS = 16


class InitializerFailed(Exception):
    """The initializer of an executor raised."""


class _Prepared:
    """The state of an executor in this process: its globals, and whether its initializer has run."""

    def __init__(self) -> None:
        self.receiver = Receiver()
        #: One call runs the initializer; others, on other threads, wait.
        self.initializing = threading.Lock()
        self.initialized = False

    def initialize(self, setup: Packed) -> None:
        """Run the initializer, once."""
        with self.initializing:
            if self.initialized:
                return
            initializer, arguments = self.receiver.load(setup)
            try:
                initializer(*arguments)
            except Exception as error:
                raise InitializerFailed(summary_of(error)) from error
            self.initialized = True


#: By id of an executor, the one used last at the end.
_known: OrderedDict[bytes, _Prepared] = OrderedDict()


def run_task(
    executor: bytes, setup: Packed | None, call: Any, where: tuple[int | str, ...], *values: Any
) -> Any:
    """Run one call and return its result.

    Args:
        executor: its id.
        setup: the initializer and its arguments.
        call: the args, the function first, and kwargs; packed, if the function could write to any.
        where: the positions and names of the arguments that were refs.
        values: the values of those refs; a Packed one, such as the function of a ``map``, is unpacked.
    """
    prepared = _known.setdefault(executor, _Prepared())
    _known.move_to_end(executor)
    while len(_known) > _MAX_EXECUTORS:
        _known.popitem(last=False)
    if setup is not None and not prepared.initialized:
        prepared.initialize(setup)
    (function, *args), kwargs = prepared.receiver.load(call) if isinstance(call, Packed) else call
    for place, value in zip(where, values, strict=True):
        if type(value) is Packed:
            value = prepared.receiver.load(value, share_from=SHARED_BYTES)
        if isinstance(place, int):
            args[place - 1] = value
        else:
            kwargs[place] = value
    return copy_of(function(*args, **kwargs))


def run_chunk(function: Callable[..., Any], chunk: tuple[tuple[Any, ...], ...]) -> list[Any]:
    """Call a function with each tuple of arguments, a chunk of a ``map``, and return the values."""
    return [function(*arguments) for arguments in chunk]
