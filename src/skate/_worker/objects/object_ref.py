"""ObjectRef: the name of a value that is, or will be, somewhere in the cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from skate._base import errors, ids
from skate._base.kinds import ERROR
from skate._serialize.exceptions import dump_error
from skate._serialize.values import collecting, reducers
from skate._worker.objects.home import Home
from skate._worker.objects.refs import PENDING, ObjectEntry, dead_entry
from skate._worker.process import current

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future


T_co = TypeVar("T_co", covariant=True)


class ObjectRef(Generic[T_co]):
    """A future: the result of a task, or what ``put`` stored. ``get`` returns its value.

    While any ref to a value exists in any process, the value is kept. Refs can be passed to tasks
    and actors, stored in structures, awaited (``await ref``) and turned into ``concurrent.futures``
    (``ref.future()``), on any thread.

    Example:
        >>> ref = skate.put([1, 2])
        >>> skate.get(ref)
        [1, 2]
    """

    __slots__ = ("_entry", "_home", "__weakref__")

    def __init__(self, id: bytes) -> None:
        if not isinstance(id, bytes):
            raise TypeError(f"Unsupported type: {type(id)}, expected bytes")
        if len(id) not in (ids.OBJECT_ID_SIZE, ids.RAY_SIZES["ObjectRef"]):
            raise ValueError(f"ID string needs to have length {ids.OBJECT_ID_SIZE}, got {len(id)}")
        made = adopt(id, "")
        self._entry: ObjectEntry = made._entry
        self._home: Home = made._home
        if self._home is not _NO_SESSION:
            with self._home.context.locked:
                self._home.refs.add_local(self._entry)

    def __del__(self) -> None:
        # May run on any thread, at any bytecode, inside the runtime's own code too: only append.
        try:
            home = self._home
        except AttributeError:
            return  # half made
        home.dead_refs.append(self._entry)
        if home.reactor.blocked_in_poll:
            home.reactor.request_turn()

    def hex(self) -> str:
        """Return the id as hexadecimal digits."""
        return self._entry.id.hex()

    def binary(self) -> bytes:
        """Return the id as bytes."""
        return self._entry.id

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> ObjectRef[Any]:
        """Return a ref for the id that ``binary()`` gave. The value must be alive by other refs.

        Raises:
            ValueError: it is no id.
        """
        if len(id_bytes) not in (ids.OBJECT_ID_SIZE, ids.RAY_SIZES["ObjectRef"]):
            raise ValueError(f"an object's id has {ids.OBJECT_ID_SIZE} bytes, got {len(id_bytes)}")
        return cls(id_bytes)

    @classmethod
    def from_hex(cls, hex_id: str) -> ObjectRef[Any]:
        """Return a ref for the id that ``hex()`` printed. See ``from_binary``."""
        return cls.from_binary(bytes.fromhex(hex_id))

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """Return the ref of nothing."""
        return cls(b"\xff" * ids.OBJECT_ID_SIZE)

    @classmethod
    def from_random(cls) -> ObjectRef[Any]:
        """Return a ref of an object that does not exist: ``get`` of it raises."""
        return cls(ids.random_bytes(ids.OBJECT_ID_SIZE))

    def call_site(self) -> str:
        """Return where in the code the call was made, or "" if that is not known here."""
        from skate._worker.process.call_site import written

        return written(self._entry.site)

    def is_nil(self) -> bool:
        """Tell whether this is the id of nothing; refs that a call returned never are."""
        return self._entry.id == b"\xff" * ids.OBJECT_ID_SIZE

    @classmethod
    def size(cls) -> int:
        """Return how many bytes an id has."""
        return ids.OBJECT_ID_SIZE

    def task_id(self) -> ids.TaskID:
        """Return the id of the task that makes the value (of the put that made it)."""
        return ids.TaskID(ids.task_of(self._entry.id))

    def job_id(self) -> ids.JobID:
        """Return the id of the job that this process belongs to."""
        return ids.JobID(self._home.context.job_id)

    def owner_address(self) -> str:
        """Return the address of the process that owns the value."""
        return self._entry.owner_address or self._home.context.address

    def future(self) -> Future[T_co]:
        """Return a ``concurrent.futures.Future`` that gets the value, or the exception.

        Example:
            >>> skate.put(3).future().result()
            3
        """
        return self._home.futures.as_concurrent_future(self)

    def as_future(self, _internal: bool = False) -> asyncio.Future[T_co]:
        """Return an asyncio future of the running loop that gets the value, or the exception."""
        return self._home.futures.as_asyncio_future(self)

    def _call_back(self, callback: Callable[[Any, BaseException | None], object]) -> None:
        """Have the running loop call ``callback(value, error)`` once the value is there; for ``serve``."""
        self._home.futures.call_back(self, callback)

    def _call_when_ready(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
        """Have a loop call a function once the value, or its error, is there; False: it is there now. For
        ``serve``."""
        return self._home.futures.call_when_ready(self, loop, callback)

    @property
    def _is_pending(self) -> bool:
        """Whether this process has no value yet, and does not know where one is; for ``serve``."""
        return self._entry.kind == PENDING

    @property
    def _failed(self) -> bool:
        """Whether the value is there and is an error; for the helpers in ``util``."""
        return self._entry.kind == ERROR

    def _ask(self) -> None:
        """Note that code will retrieve the value, or need not: its error is not reported."""
        self._entry.mark_retrieved()

    def _on_completed(self, py_callback: Callable[[T_co | BaseException], None]) -> None:
        """Have a function called with the value, or the exception, once it is there."""

        def call(done: Future[T_co]) -> None:
            error = done.exception()
            py_callback(error if error is not None else done.result())

        self.future().add_done_callback(call)

    def __await__(self) -> Generator[Any, None, T_co]:
        return self.as_future().__await__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectRef) and other._entry.id == self._entry.id

    def __lt__(self, other: ObjectRef[Any]) -> bool:
        return self._entry.id < other._entry.id

    def __le__(self, other: ObjectRef[Any]) -> bool:
        return self._entry.id <= other._entry.id

    def __gt__(self, other: ObjectRef[Any]) -> bool:
        return self._entry.id > other._entry.id

    def __ge__(self, other: ObjectRef[Any]) -> bool:
        return self._entry.id >= other._entry.id

    def __hash__(self) -> int:
        return hash(self._entry.id)

    def __repr__(self) -> str:
        return f"ObjectRef({self._entry.id.hex()})"

    def __copy__(self) -> ObjectRef[T_co]:
        return self

    def __deepcopy__(self, memo: Any) -> ObjectRef[T_co]:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        home = self._home
        if type(home) is not Home:
            elsewhere: Any = home
            return elsewhere.reduce(self)  # type: ignore[no-any-return]
        found = collecting.refs
        if found is None:
            # Pickled by user code (to a file, a socket): a process that unpickles it later must find the
            # value, so it is kept until the job ends.
            with home.context.locked:
                home.refs.pin(self._entry)
        else:
            found.append(self)
        return adopt, (self._entry.id, self._entry.owner_address or home.context.address)


def make_ref(entry: ObjectEntry, home: Home) -> ObjectRef[Any]:
    """Return a ref for an entry whose ``local`` the caller has counted already."""
    try:
        ref = _new(ObjectRef)
    except MemoryError:
        home.dead_refs.append(entry)
        raise
    ref._entry = entry
    ref._home = home
    return ref


def make_refs(entries: Sequence[ObjectEntry], home: Home) -> list[ObjectRef[Any]]:
    """Return refs for several entries: see ``make_ref``."""
    refs: list[ObjectRef[Any]] = []
    try:
        for entry in entries:
            refs.append(make_ref(entry, home))
    except MemoryError:
        home.dead_refs.extend(entries[len(refs) + 1 :])  # ``__del__`` and ``make_ref`` append the others
        raise
    return refs


_new = ObjectRef.__new__


class _NoSession:
    """Stands for the runtime in refs that have none.

    A ``__getattr__`` of the ref would do as well, but doubles the time of each access to its attributes.
    """

    def __init__(self) -> None:
        #: For ``ObjectRef.__del__``; nothing is kept.
        self.dead_refs: deque[Any] = deque(maxlen=0)
        self.reactor = SimpleNamespace(blocked_in_poll=False)

    def reduce(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        """Return what a ref is pickled as: an id, and the address that came with it."""
        return adopt, (ref._entry.id, ref._entry.owner_address or "")

    def __getattr__(self, name: str) -> Any:
        raise NotConnectedError(
            "this ObjectRef was made or unpickled before init(), or after shutdown(): it names an object "
            "that this process cannot reach"
        )


_NO_SESSION: Any = _NoSession()


def adopt(object_id: bytes, owner_address: str) -> ObjectRef[Any]:
    """Rebuild a ref that was pickled: this process now borrows the object (or owns it)."""
    return adoption.by(object_id, owner_address)


def without_session(object_id: bytes, owner_address: str) -> ObjectRef[Any]:
    """Return a ref in a process that has no session, as Ray does: it can be looked at and pickled again."""
    if current.process.forked:
        current.require_core("unpickle an ObjectRef")
    ref: ObjectRef[Any] = _new(ObjectRef)
    ref._home = _NO_SESSION
    text = "this ref was made before init(), or after shutdown(): only its id is known"
    error = errors.ReferenceCountingAssertionError(object_id.hex(), owner_address, text)
    ref._entry = dead_entry(object_id, owner_address or None, dump_error(error))
    return ref


class _Adoption:
    """The hook of the runtime, or of an engine that has none of ours (see ``engine.use``)."""

    by: Callable[[bytes, str], ObjectRef[Any]] = staticmethod(without_session)


adoption = _Adoption()


class NotConnectedError(RuntimeError, AttributeError):
    """Raised by a ref that was made without a session, for an operation that needs the runtime."""


# The pickler finds it faster there: a list may hold thousands of refs.
reducers[ObjectRef] = ObjectRef.__reduce__
