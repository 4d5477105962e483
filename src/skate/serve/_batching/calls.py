"""The calls of batched functions: their arguments, and where their results go. On one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from skate.serve._batching.queue import Waiting

#: The end of a stream.
END = object()


class Call(Waiting):
    """One call."""

    def __init__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], group: str, since: float, deadline: float
    ) -> None:
        item = args[0] if args else next(iter(kwargs.values()), None)
        super().__init__(item, group, since, deadline)
        self.args = args
        self.kwargs = kwargs
        #: Nobody waits for its results any more.
        self.is_dropped = False

    def put(self, value: Any, error: BaseException | None = None) -> None:
        """Give the caller a result, or an error."""
        raise NotImplementedError


class One(Call):
    """A call with one result."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def put(self, value: Any, error: BaseException | None = None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class Stream(Call):
    """A call with a stream of results."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._results: asyncio.Queue[tuple[Any, BaseException | None]] = asyncio.Queue()
        #: Called when the caller has taken a result, or wants no more.
        self.changed: Callable[[], object] = _nothing

    @property
    def untaken(self) -> int:
        """How many results the caller has not taken yet."""
        return self._results.qsize()

    def put(self, value: Any, error: BaseException | None = None) -> None:
        self._results.put_nowait((value, error))

    async def get(self) -> Any:
        """Return the next result, or ``END``; raise an error in its place."""
        value, error = await self._results.get()
        self.changed()
        if error is not None:
            raise error
        return value

    def drop(self) -> None:
        """Note that the caller wants no more."""
        self.is_dropped = True
        self.changed()


def _nothing() -> None:
    pass
