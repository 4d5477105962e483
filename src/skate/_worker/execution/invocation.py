"""Decodes the arguments of a call in a worker, encodes its results, and counts the refs in both."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from types import GeneratorType
from typing import Any

from skate._base import errors, ids
from skate._base.clock import monotonic
from skate._base.user_errors import attributes_of, is_a, is_any_of, set_traceback
from skate._serialize import culprit
from skate._serialize.tracebacks import format_error
from skate._serialize.values import deserialize, serialize
from skate._transport.connection import EAGER_BYTES, Connection
from skate._wire import node
from skate._wire import worker as wire
from skate._worker.objects.borrowing import Borrowing
from skate._worker.objects.garbage import Garbage
from skate._worker.objects.object_ref import ObjectRef
from skate._worker.objects.refs import MISSING, ObjectEntry
from skate._worker.objects.shared_memory import NotInStore, SharedMemory
from skate._worker.objects.values import deserialized_refs
from skate._worker.process import current
from skate._worker.process.context import ProcessContext
from skate._worker.process.daemon_link import DaemonLink
from skate._worker.process.peers import Peer

#: Items that follow each other closely are batched for at most this time (seconds).
_ITEM_BATCH_S = 0.001

Result = tuple[
    int,  # kind
    bytes,  # data of the first return
    "list[tuple[int, bytes]] | None",  # further returns
    "list[tuple[int, bytes, str]] | None",  # refs inside: (return index, id, owner's address)
    "Sequence[ObjectRef[Any]] | None",  # these refs: alive until ``reply`` has pinned their objects
]


class ArgumentLost(Exception):
    """A call cannot begin: ``what`` is the id and the location of an argument that is not in the store."""

    def __init__(self, what: bytes) -> None:
        super().__init__(what)
        self.what = what


class Yielded:
    """The items, encoded, that a generator with a fixed number of returns has yielded."""

    def __init__(self) -> None:
        self.encoded: list[tuple[int, bytes]] = []
        self.contained: list[tuple[int, bytes, str]] = []
        self.kept: list[ObjectRef[Any]] = []

    @property
    def sealed(self) -> list[int]:
        """The indexes of those in the store."""
        return [index for index, (kind, _) in enumerate(self.encoded) if kind == wire.SHARED]

    def result(self) -> Result:
        """Return the items as the whole result of a call."""
        (kind, data), more = self.encoded[0], self.encoded[1:]
        return kind, data, more or None, self.contained or None, self.kept or None


class Stopped(BaseException):
    """A generator with a fixed number of returns raised before it had yielded all of them.

    Args:
        error: its exception.
        before: the items yielded before.
    """

    def __init__(self, error: BaseException, before: Yielded) -> None:
        super().__init__()
        self.error = error
        self.before = before


class Invocation:
    """Does the steps before and after user code for every kind of runner (serial, threaded, async)."""

    def __init__(
        self,
        context: ProcessContext,
        daemon: DaemonLink,
        memory: SharedMemory,
        borrowing: Borrowing,
        garbage: Garbage,
    ) -> None:
        self._context = context
        self._daemon = daemon
        self._memory = memory
        self._borrowing = borrowing
        self._garbage = garbage
        self._last_flush = 0.0
        #: Calls (owner, seq) that were cancelled.
        self.cancelled: AbstractSet[tuple[bytes, int]] = frozenset()

    # ------------------------------------------------------------------ before

    def decode_arguments(
        self, call: wire.Call, received: list[ObjectEntry]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return args and kwargs; ``received`` gets the entries of the refs that came with them."""
        if call.kind == wire.NONE:
            return (), {}
        outer, deserialized_refs.entries = deserialized_refs.entries, received
        try:
            data: bytes | memoryview = call.args
            kind = call.kind
            if kind == wire.SHARED:
                data, kind = self.view_of_arguments(call.args), wire.BUFFERS
            args, kwargs = deserialize(kind, data)
            if call.dependencies is not None:
                args = list(args)
                for where, kind, data, object_id in call.dependencies:
                    if kind == wire.SHARED:
                        try:
                            data, kind = self._memory.view(object_id), wire.BUFFERS
                        except NotInStore:
                            raise ArgumentLost(object_id + data) from None
                    value = deserialize(kind, data)
                    if isinstance(where, int):
                        args[where] = value
                    else:
                        kwargs[where] = value
            return args, kwargs
        finally:
            deserialized_refs.entries = outer

    def view_of_arguments(self, object_id: bytes) -> memoryview:
        """Return the arguments that were too large for a message."""
        try:
            return self._memory.view(object_id)
        except NotInStore:
            owner = ids.owner_of(object_id).hex()
            text = f"it holds the arguments of {current.call.get().name}, and {MISSING}"
            raise errors.ObjectLostError(object_id.hex(), owner, text) from None

    # ------------------------------------------------------------------ after

    def encode(self, peer: Peer, call: wire.Call, name: str, result: Any) -> Result:
        """Encode the result of user code for the reply.

        Callers keep no name for the result: a returned exception has their frames in its traceback.
        """
        if self.cancelled:
            self.check_cancelled(peer.id, call.seq)
        count = call.num_returns
        if type(result) is GeneratorType and (count > 1 or (count == 1 and _is_the_calls(result))):
            return self.encode_yielded(peer.id, call, result, name)
        if count == 1:
            kind, data, refs = self._encode(peer.id, call, 0, result)
            if not refs:
                return kind, data, None, None, None
            return kind, data, None, self.name_refs(0, refs), refs
        if count == 0:
            return wire.NONE, b"", None, None, None
        return self._encode_many(peer.id, call, result, name)

    def check_cancelled(self, owner: bytes, seq: int) -> None:
        """Raise KeyboardInterrupt again if the call was cancelled: user code may have swallowed the first."""
        if (owner, seq) in self.cancelled:
            raise KeyboardInterrupt

    def discard_results(self, owner: bytes, call: wire.Call, error: BaseException) -> None:
        """Have the store drop results that a call may have sealed before it ran out of memory."""
        # A repeated call may have results there from its first run, which are needed.
        if is_a(error, MemoryError) and not call.flags & wire.AGAIN:
            self.discard([ids.object_id(owner, call.seq, index) for index in range(call.num_returns)])

    def discard(self, made: list[bytes]) -> None:
        """Free objects that may have been sealed, but will not be in a reply."""
        if made:
            with self._context.locked:
                self._daemon.send(node.Free(made, False, self._context.worker_id))

    def failure(
        self,
        owner: bytes,
        call: wire.Call,
        data: bytes,
        refs: Sequence[ObjectRef[Any]],
        *,
        retriable: bool,
        before: Yielded | None,
    ) -> Result:
        """Return the reply for a pickled exception. ``before``: the items yielded before."""
        if before is not None and (retriable or len(before.encoded) == 0):
            self.forget(owner, call, before)
            before = None
        kind = wire.RETRIABLE if retriable else wire.ERROR
        more = before.encoded if before is not None else None
        contained = before.contained if before is not None else []
        if not call.num_returns:
            refs = ()  # no return has the error, so no process acknowledges them
        kept = [*(before.kept if before is not None else ()), *refs]
        for index in range(len(more or ()), call.num_returns if refs else 0):
            contained = contained + self.name_refs(index, refs)
        return kind, data, more, contained or None, kept or None

    def forget(self, owner: bytes, call: wire.Call, before: Yielded) -> None:
        """Discard the items of a generator, which will not be in a reply and may be in the store."""
        if not call.flags & wire.AGAIN:
            self.discard([ids.object_id(owner, call.seq, index) for index in before.sealed])

    def _encode(
        self, owner: bytes, call: wire.Call, index: int, result: Any
    ) -> tuple[int, bytes, Sequence[ObjectRef[Any]]]:
        name = "the result" if index == 0 else f"return {index}"
        again = bool(call.flags & wire.AGAIN)
        return self.encode_value(ids.object_id(owner, call.seq, index), result, name, again)

    def encode_value(
        self, object_id: bytes, result: Any, name: str, again: bool
    ) -> tuple[int, bytes, Sequence[ObjectRef[Any]]]:
        """Encode one value for a message; a large one is sealed under that id.

        ``again``: an object that is sealed already stays as it is.
        """
        if result is None:
            return wire.NONE, b"", ()
        try:
            serialized = serialize(result)
        except (RecursionError, MemoryError):
            raise
        except BaseException as error:  # SystemExit too: it was raised by a hook of the value
            raise TypeError(f"cannot return it: {culprit.explain(result, name, error)}") from None
        if serialized.size <= self._context.config.max_inline_bytes:
            return serialized.kind, serialized.to_bytes(), serialized.refs
        kind, data = self._memory.store_value(object_id, serialized, type(result), mine=False, again=again)
        return kind, data, serialized.refs

    def name_refs(self, index: int, refs: Sequence[ObjectRef[Any]]) -> list[tuple[int, bytes, str]]:
        """Return the refs inside a result as the reply names them."""
        entries = {id(ref._entry): ref._entry for ref in refs}.values()
        address = self._context.address
        return [(index, entry.id, entry.owner_address or address) for entry in entries]

    def _encode_many(self, owner: bytes, call: wire.Call, result: Any, name: str) -> Result:
        count = call.num_returns
        try:
            values = list(result)
        except TypeError:
            what = "None" if result is None else f"one object, of type {type(result).__name__}"
            raise TypeError(
                f"{name}: Task returned {what}, which has no len(), but num_returns={count}."
            ) from None
        if len(values) != count:
            raise ValueError(f"{name}: Task returned {len(values)} objects, but num_returns={count}.")
        made = Yielded()
        try:
            for value in values:
                self._add(owner, call, made, value)
        except BaseException:
            self.forget(owner, call, made)
            raise
        return made.result()

    def _add(self, owner: bytes, call: wire.Call, made: Yielded, value: Any) -> None:
        index = len(made.encoded)
        kind, data, refs = self._encode(owner, call, index, value)
        made.encoded.append((kind, data))
        if refs:
            made.contained += self.name_refs(index, refs)
            made.kept += refs

    def encode_yielded(self, owner: bytes, call: wire.Call, items: Any, name: str) -> Result:
        """Encode the items of a generator until there are as many as its number of returns.

        Raises:
            Stopped: it raised before; the items yielded before count.
        """
        count, made = call.num_returns, Yielded()
        try:
            for value in items:
                if len(made.encoded) == count:
                    items.close()
                    self._context.warn(
                        f"{name} has num_returns={count} and yielded more; what it yielded after that is lost"
                    )
                    break
                self._add(owner, call, made, value)
                del value
            if len(made.encoded) < count:
                raise ValueError(f"{name} has num_returns={count} and yielded {len(made.encoded)} value(s)")
        except BaseException as error:
            if is_a(error, SystemExit):
                self.forget(owner, call, made)
                raise
            if len(made.encoded) < count:
                raise Stopped(error, made) from None
            self._context.warn(
                f"{name} raised when it had yielded all that its num_returns={count} asks for, so no ref "
                f"has this error:\n{format_error(error).rstrip()}"
            )
            set_traceback(error, None)
        if self.cancelled and (owner, call.seq) in self.cancelled:
            self.forget(owner, call, made)
            raise KeyboardInterrupt
        return made.result()

    def reply(
        self,
        connection: Connection,
        call: wire.Call,
        result: Result,
        microseconds: int,
        received: list[ObjectEntry],
    ) -> bool:
        """Queue the reply, now or when the owners of its refs have acknowledged. Under the lock.

        Tell whether it is queued on the connection now, for the caller to flush.
        """
        kind, data, more, contained, kept = result
        reply = wire.Reply(call.seq, kind, data, microseconds, more, None, contained)
        if kept is not None:
            entries = list({id(ref._entry): ref._entry for ref in kept}.values())
            self._borrowing.keep_until_acknowledged(connection, (call.seq, -1), entries)
        self._garbage.drain()
        if received and not self._borrowing.settle(connection, reply, received):
            self._garbage.drain()
            self._context.reactor.flush()
            return False
        connection.send(reply)
        return True

    def flush_soon(self, connection: Connection) -> None:
        """Flush at once if the last flush was long ago, else with later items. Under the lock.

        The background thread flushes the rest when it leads: see Reactor.
        """
        now = monotonic()
        if now - self._last_flush >= _ITEM_BATCH_S or len(connection.out) > EAGER_BYTES:
            self._last_flush = now
            connection.flush()
        elif self._context.reactor.polling:
            self._context.reactor.request_flush()


def _is_the_calls(result: Any) -> bool:
    """Tell whether a generator belongs to the function that was called. Another one cannot be sent."""
    name: str = result.gi_code.co_name
    return current.call.get().function.rpartition(".")[2] == name


def matches(retry: bytes, error: BaseException) -> bool:
    """Tell whether a call that raised this may be run again: see ``Call.retry``."""
    if is_a(error, errors.RayTaskError):
        error = attributes_of(error).get("cause", error)
    if retry == wire.ALL:
        return is_a(error, Exception)
    try:
        kinds = pickle.loads(retry)
    except BaseException:  # unpickling is the user's code; the caller gets the call's error
        return False
    return is_any_of(error, kinds if type(kinds) is tuple else (kinds,))
