"""The process of an ObjectRef, as far as the ref needs it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

from skate._worker.objects.refs import ObjectEntry, RefTable
from skate._worker.process.context import ProcessContext


class FutureMaker(Protocol):
    """Makes futures of refs."""

    def as_concurrent_future(self, ref: Any) -> Future[Any]:
        """Return a future for threads."""

    def as_asyncio_future(self, ref: Any) -> asyncio.Future[Any]:
        """Return a future of the running loop."""

    def call_back(self, ref: Any, callback: Callable[[Any, BaseException | None], object]) -> None:
        """Have the running loop call ``callback(value, error)`` once the value is there, never at once."""

    def call_when_ready(
        self, ref: Any, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
    ) -> bool:
        """Have a loop call a function once the value, or its error, is there; False: it is there now."""


class Home:
    """The process of an ObjectRef, as the ref sees it. Every ref of a process refers to the same one."""

    __slots__ = ("context", "reactor", "refs", "dead_refs", "futures")

    futures: FutureMaker

    def __init__(self, context: ProcessContext, refs: RefTable) -> None:
        self.context = context
        self.reactor = context.reactor
        self.refs = refs
        #: Entries whose ObjectRefs ended: ``ObjectRef.__del__`` appends, each turn drains.
        self.dead_refs: deque[ObjectEntry] = deque()
