"""Refs as futures: of asyncio loops and of threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._base.errors import RayTaskError
from skate._base.user_errors import attributes_of, is_a
from skate._serialize.tracebacks import shortened
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.object_ref import ObjectRef
from skate._worker.objects.refs import PENDING, ObjectEntry, RefTable
from skate._worker.objects.values import NotYetAgain, Values
from skate._worker.process.context import ProcessContext
from skate._worker.process.loops import call_soon

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future


@functools.cache
def _future_type() -> type[Future[Any]]:
    from concurrent.futures import Future

    class TrueFuture(Future[Any]):
        """A future that raises its exception even if that is false as a condition."""

        def result(self, timeout: float | None = None) -> Any:
            error = self.exception(timeout)
            if error is not None:
                raise error
            return super().result(0)

    return TrueFuture


def _awaitable(error: BaseException) -> BaseException:
    """Return an error as ``await`` can raise it.

    A task's exception that has another meaning here (StopIteration would be the value of the ``await``,
    CancelledError and KeyboardInterrupt would end the task or the loop that awaits) is a RayTaskError only.
    """
    if is_a(error, RayTaskError):
        cause = attributes_of(error).get("cause", error)
        if is_a(cause, StopIteration) or not is_a(cause, Exception):
            return RayTaskError(*RayTaskError.fields.fget(error))  # type: ignore[attr-defined]
    return error


class Futures:
    """Makes futures of refs, and runs the callbacks of those for threads. Built by Core."""

    def __init__(
        self, context: ProcessContext, refs: RefTable, borrowing: Borrowing, garbage: Garbage, values: Values
    ) -> None:
        self._context = context
        self._refs = refs
        self._borrowing = borrowing
        self._garbage = garbage
        self._values = values
        self._callbacks: Any = None

    def when_ready(self, entry: ObjectEntry, call: Callable[[], None]) -> bool:
        """Have ``call`` called under the lock when the value is there. Return False if it is there now."""
        with self._context.locked:
            if entry.kind != PENDING:
                return False
            self._refs.when_ready(entry, lambda _: call())
            if entry.owner_address is not None:
                self._borrowing.fetch(entry)
            self._garbage.drain()
        reactor = self._context.reactor
        if reactor.dirty and reactor.polling:
            reactor.request_flush()
        return True

    def as_asyncio_future(self, ref: ObjectRef[Any]) -> asyncio.Future[Any]:
        """Return a future of the running loop."""
        import asyncio

        ref._entry.mark_retrieved()  # though the loop, or the process, may end before the future gets it
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                try:
                    future.set_result(self._values.value_now(ref._entry))
                except NotYetAgain:
                    if not self.when_ready(ref._entry, ready):
                        resolve()
                except BaseException as error:
                    future.set_exception(_awaitable(shortened(error)))

        def ready() -> None:
            try:
                call_soon(loop, resolve, self._context.reactor)
            except RuntimeError:
                pass  # the loop was closed: no coroutine waits any more

        if not self.when_ready(ref._entry, ready):
            resolve()
        return future

    def call_back(self, ref: ObjectRef[Any], callback: Callable[[Any, BaseException | None], object]) -> None:
        """Have the running loop call ``callback(value, error)`` once the value is there, never at once.

        A future's callback would run a round of the loop later.
        """
        import asyncio

        ref._entry.mark_retrieved()
        loop = asyncio.get_running_loop()

        def resolve() -> None:
            value, error = None, None
            try:
                value = self._values.value_now(ref._entry)
            except NotYetAgain:
                if not self.when_ready(ref._entry, ready):
                    loop.call_soon(resolve)
                return
            except BaseException as raised:
                error = _awaitable(shortened(raised))
            try:
                callback(value, error)
            except Exception as bug:  # the loop reads the sockets just now
                loop.call_exception_handler(
                    {"message": "the callback of an ObjectRef failed", "exception": bug}
                )

        def ready() -> None:
            try:
                call_soon(loop, resolve, self._context.reactor)
            except RuntimeError:
                pass  # the loop was closed

        if not self.when_ready(ref._entry, ready):
            loop.call_soon(resolve)

    def call_when_ready(
        self, ref: ObjectRef[Any], loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
    ) -> bool:
        """Have a loop call a function once the value, or its error, is there; False: it is there now."""

        def ready() -> None:
            try:
                call_soon(loop, callback, self._context.reactor)
            except RuntimeError:
                pass  # the loop was closed

        return self.when_ready(ref._entry, ready)

    def as_concurrent_future(self, ref: ObjectRef[Any]) -> Future[Any]:
        """Return a future for threads. Its callbacks run on a thread of their own."""
        ref._entry.mark_retrieved()
        future: Future[Any] = _future_type()()
        future.set_running_or_notify_cancel()

        def resolve() -> None:
            try:
                future.set_result(self._values.value(ref._entry))
            except BaseException as error:
                future.set_exception(shortened(error))

        if not self.when_ready(ref._entry, lambda: self.run_callback(resolve)):
            resolve()
        return future

    def run_callback(self, callback: Callable[[], None]) -> None:
        """Run user code on a thread of its own; not once the interpreter ends, as its threads have ended."""
        try:
            if self._callbacks is None:
                from concurrent.futures import ThreadPoolExecutor

                self._callbacks = ThreadPoolExecutor(1, "skate-callbacks")
            self._callbacks.submit(callback)
        except RuntimeError as error:
            if "shutdown" in str(error):
                return
            if "thread" not in str(error):
                raise
            raise MemoryError(f"futures have no thread to call back on: {error}") from None

    def close(self) -> None:
        """End the callback thread."""
        if self._callbacks is not None:
            self._callbacks.shutdown(wait=False)
