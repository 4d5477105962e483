"""skate's refs and generators around Ray's.

A ref holds an ``Entry`` with Ray's ref in it; Ray counts. A pickled ref has Ray's ref inside, so that Ray
sees it travel, whatever it is in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

from skate._base import ids
from skate._base.kinds import ERROR, PICKLE
from skate._on_ray.errors import translated
from skate._worker.objects.object_ref import make_ref
from skate.engine.refs import DynamicObjectRefGenerator, ObjectRef, ObjectRefGenerator


class Entry:
    """The facts of a ref about its object: see ``skate._worker.objects.refs.ObjectEntry``."""

    __slots__ = ("native",)

    #: Ray's, and not known here.
    owner_address = ""
    site = None

    def __init__(self, native: Any) -> None:
        self.native = native

    @property
    def id(self) -> bytes:
        """The object's id, as Ray has it."""
        found: bytes = self.native.binary()
        return found

    @property
    def kind(self) -> int:
        """Whether the value is there and is an error."""
        ray = home.ray
        ready, _ = ray.wait([self.native], timeout=0)
        if ready:
            try:
                ray.get(self.native)
            except Exception:
                return ERROR
        return PICKLE

    def mark_retrieved(self) -> None:
        """Do nothing: Ray does not report errors that nobody asks for."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and other.native == self.native

    def __hash__(self) -> int:
        return hash(self.native)


class RayHome:
    """The process of a ref, as far as the ref needs it: see ``skate._worker.objects.home``."""

    def __init__(self) -> None:
        self._ray: Any = None
        #: Ray counts its refs by itself.
        self.dead_refs: deque[Any] = deque(maxlen=0)
        self.reactor = SimpleNamespace(blocked_in_poll=False)
        self.refs = SimpleNamespace(add_local=_ignore, pin=_ignore)
        self.context = _Context(self)
        self.futures = self

    @property
    def ray(self) -> Any:
        """The module ``ray``."""
        if self._ray is None:
            from skate._on_ray import import_ray

            self._ray = import_ray()
        return self._ray

    def reduce(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        """Return what a ref is pickled as: Ray's ref, which Ray's pickler sees."""
        return wrapped, (native(ref),)

    def as_concurrent_future(self, ref: ObjectRef[Any]) -> Future[Any]:
        """Return a future for threads."""
        made: Future[Any] = Future()

        def done(found: Future[Any]) -> None:
            if not made.set_running_or_notify_cancel():
                return
            error = found.exception()
            if error is None:
                made.set_result(unwrapped_value(found.result()))
            else:
                made.set_exception(translated(error))

        native(ref).future().add_done_callback(done)
        return made

    def as_asyncio_future(self, ref: ObjectRef[Any]) -> asyncio.Future[Any]:
        """Return a future of the running loop."""
        made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        source = asyncio.wrap_future(native(ref).future())

        def done(found: asyncio.Future[Any]) -> None:
            if made.cancelled():
                found.cancelled() or found.exception()  # it was looked at
            elif found.cancelled():
                made.cancel()
            elif (error := found.exception()) is not None:
                made.set_exception(translated(error))
            else:
                made.set_result(unwrapped_value(found.result()))

        source.add_done_callback(done)
        return made

    def call_back(self, ref: ObjectRef[Any], callback: Callable[[Any, BaseException | None], object]) -> None:
        """Have the running loop call ``callback(value, error)`` once the value is there."""

        def done(found: asyncio.Future[Any]) -> None:
            error = found.exception()
            callback(None if error is not None else found.result(), error)

        self.as_asyncio_future(ref).add_done_callback(done)


class _Context:
    """This process in its session, as refs ask for it."""

    address = "ray"
    locked = threading.RLock()

    def __init__(self, of: RayHome) -> None:
        self._home = of

    @property
    def job_id(self) -> bytes:
        """The id of the job."""
        return bytes.fromhex(self._home.ray.get_runtime_context().get_job_id())


def _ignore(entry: Any) -> None:
    pass


home: Any = RayHome()
"""Of this process; every ref of it refers to this one."""


def native(ref: ObjectRef[Any]) -> Any:
    """Return Ray's ref in one of skate's.

    Raises:
        TypeError: the ref is not of a Ray cluster.
    """
    entry: Any = ref._entry
    if type(entry) is not Entry:
        raise TypeError(f"{ref!r} is not a ref of a Ray cluster: it was made in another session")
    return entry.native


def argument(value: Any) -> Any:
    """Return an argument of a call for Ray, which replaces its own refs by their values."""
    return native(value) if type(value) is ObjectRef else value


def wrapped(ref: Any) -> ObjectRef[Any]:
    """Return skate's ref around Ray's."""
    entry: Any = Entry(ref)
    return make_ref(entry, home)


def made(found: Any) -> Any:
    """Return what a call returns where Ray's returned this: a ref, a list of them, a generator, None."""
    if found is None:
        return None
    if isinstance(found, list):
        return [wrapped(one) for one in found]
    if hasattr(found, "completed"):
        return RayGenerator(found)
    return wrapped(found)


def unwrapped_value(value: Any) -> Any:
    """Return a value that ``get`` returns: the list of a dynamic generator's refs has skate's refs."""
    if type(value).__name__ == "DynamicObjectRefGenerator" and type(value).__module__.startswith("ray"):
        return DynamicObjectRefGenerator([wrapped(one) for one in value])
    return value


class RayGenerator(ObjectRefGenerator[Any]):
    """The items of a generator that runs on Ray."""

    __slots__ = ("native",)

    def __init__(self, found: Any) -> None:
        self.native = found
        self._closed = False

    def __del__(self) -> None:
        """Do nothing: Ray's generator ends by itself."""

    @property
    def _entry(self) -> Any:
        return Entry(self.native)

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[Any] | None:
        if self._closed:
            raise StopIteration
        found = self.native._next_sync(timeout_s)
        return None if found is None or found.is_nil() else wrapped(found)

    def __next__(self) -> ObjectRef[Any]:
        if self._closed:
            raise StopIteration
        return wrapped(next(self.native))

    async def __anext__(self) -> ObjectRef[Any]:
        if self._closed:
            raise StopAsyncIteration
        return wrapped(await self.native.__anext__())

    def close(self) -> None:
        """Take no more items: the remote generator is stopped."""
        if not self._closed:
            self._closed = True
            if not self.native.is_finished():
                home.ray.cancel(self.native)

    def completed(self) -> ObjectRef[Any]:
        """Return a ref that is ready when the generator has ended: None, or its exception."""
        return wrapped(self.native.completed())

    def next_ready(self) -> bool:
        """Tell whether ``next`` returns (or raises) without waiting."""
        return self._closed or bool(self.native.next_ready())

    def is_finished(self) -> bool:
        """Tell whether every item was taken, and no more will come."""
        return self._closed or bool(self.native.is_finished())

    def task_id(self) -> ids.TaskID:
        """Return the id of the task that the generator runs in."""
        return self.completed().task_id()

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self.task_id().hex()})"


class Actor:
    """Ray's handle of an actor, in the place of the ref that stands for skate's handles: Ray counts it."""

    __slots__ = ("handle", "__weakref__")

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        _actors.add(self)

    @property
    def id(self) -> bytes:
        """The actor's id."""
        found: bytes = self.handle._actor_id.binary()
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Actor, (self.handle,)


_actors: WeakSet[Actor] = WeakSet()
"""Those that live in this process."""


def actor_of(actor_id: bytes) -> Actor | None:
    """Return a handle of an actor, if this process has one."""
    return next((one for one in list(_actors) if one.id == actor_id), None)
