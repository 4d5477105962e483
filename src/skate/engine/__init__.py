"""The engine that carries out the public API in this process, whichever it is.

::

    api, actor, remote_function, util, dag, cli    what people use
              |
         interface.Engine                          what they need of the runtime, in five small protocols
              |
    runtime.RuntimeEngine | _inline.session.InlineEngine | an engine on another cluster

Modules above this package import no role (``_worker``, ``_inline``) and touch no runtime: they ask
``engine()``. ``refs`` has the classes of refs that all engines hand out.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skate._worker.objects.object_ref import adoption, without_session
from skate._worker.process import current

if TYPE_CHECKING:
    from skate.engine.interface import Engine


class _Connection:
    """One slot: a process is connected to one session at a time."""

    engine: Engine | None = None
    #: Returns the engine of a process that somebody else's cluster started, and connects it; or None.
    elsewhere: Callable[[], Engine | None] | None = None
    #: Returns the runtime that this process is leaving, as long as that exists.
    left: Callable[[], Any] = staticmethod(lambda: None)
    #: Guards both where they change. A thread that makes its first call while another one calls ``shutdown``
    #: must not connect this process again.
    lock = threading.RLock()


connection = _Connection()
"""What calls compare their engine with: one look, no function, since every ``.remote()`` does it."""


def engine() -> Engine | None:
    """Return the engine of this process, or None before ``init`` and after ``shutdown``."""
    found = connection.engine
    if found is None and current.process.core is not None:
        with connection.lock:
            core = current.process.core
            if core is not None and core is not connection.left():
                found = connection.engine = _engine_of(core)
    elif found is None and connection.elsewhere is not None:
        found = connection.elsewhere()
    return found


def _engine_of(core: Any) -> Engine:
    """Return the engine of a runtime. In a worker the first call of the API makes it."""
    if core.engine is None:
        from skate.engine.runtime import RuntimeEngine

        core.engine = RuntimeEngine(core)
    return core.engine  # type: ignore[no-any-return]


def require_engine(what: str) -> Engine:
    """Return the engine of this process.

    Args:
        what: what cannot be done without one, for the message: "free objects".

    Raises:
        RuntimeError: it has none, or this is a forked child of a process that has one.
    """
    found = engine()
    if found is None:
        current.require_core(what)  # raises, and says which of the two it is
        raise RuntimeError(f"cannot {what}: the session is being shut down")
    return found


def to_ray(ref: Any) -> Any:
    """Return Ray's own ref for a ref of skate's, for code that calls Ray itself.

    Args:
        ref: an ObjectRef of a session that runs on a Ray cluster.

    Returns:
        A ``ray.ObjectRef`` of the same object.

    Raises:
        NotImplementedError: the session runs on another engine.

    Example:
        >>> ray.get(skate.engine.to_ray(skate.put(1)))
        1
    """
    return _of_ray("to_ray")(ref)


def from_ray(ref: Any) -> Any:
    """Return skate's ref for one of Ray's, such as a plain Ray program's result.

    Args:
        ref: a ``ray.ObjectRef`` of the cluster on which this session runs.

    Returns:
        An ObjectRef of the same object.

    Raises:
        NotImplementedError: the session runs on another engine.

    Example:
        >>> skate.get(skate.engine.from_ray(ray.put(1)))
        1
    """
    return _of_ray("from_ray")(ref)


def _of_ray(name: str) -> Callable[[Any], Any]:
    found = getattr(require_engine("exchange refs with Ray"), name, None)
    if found is None:
        raise NotImplementedError(
            f"skate.engine.{name}() exchanges refs with Ray, and this session does not run on a Ray cluster: "
            "see init(address='ray')"
        )
    return found  # type: ignore[no-any-return]


def use(new: Engine) -> None:
    """Connect this process by an engine that is not our runtime's: of another cluster, or of a test."""
    with connection.lock:
        connection.engine = new
        adoption.by = new.adopt_ref


def leave() -> None:
    """Disconnect this process: from now on it has no engine, whatever the runtime still does."""
    with connection.lock:
        core = current.process.core
        connection.left = weakref.ref(core) if core is not None else _Connection.left
        connection.engine = None
        if core is None:
            adoption.by = without_session


def is_forked() -> bool:
    """Tell whether this is a forked child of a connected process: it cannot use the API."""
    return current.process.forked


def _after_fork_in_child() -> None:
    connection.lock = threading.RLock()  # a thread that is not here may hold it
    if connection.engine is not None:
        connection.engine = None
        adoption.by = without_session
        current.process.forked = True


os.register_at_fork(after_in_child=_after_fork_in_child)
