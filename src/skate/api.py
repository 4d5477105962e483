"""The public functions: thin, typed, validated."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

# With the API, not inside of the first call: see ``skate._import``.
import skate._launch.connect
import skate.engine.runtime  # noqa: F401
from skate import _starting
from skate._serialize.tracebacks import shortened
from skate._starting import connected_engine
from skate.actor import ActorClass, ActorHandle, ActorMethod
from skate.engine import engine, require_engine
from skate.engine.refs import ObjectRef, ObjectRefGenerator, check_timeout, check_wait
from skate.options import check_namespace
from skate.remote_function import P, R, RemoteFunction

T = TypeVar("T")
C = TypeVar("C")


class RayContext(Mapping[str, Any]):
    """Holds the session's addresses, which ``init`` returns, as a mapping and as a context manager.

    Example:
        >>> with skate.init():
        ...     ...
    """

    dashboard_url: str | None = None

    def __init__(self, address_info: dict[str, Any]) -> None:
        self.address_info = address_info

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Any:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *exc: object) -> None:
        shutdown()

    def disconnect(self) -> None:
        """End the session."""
        shutdown()

    @property
    def python_version(self) -> str:
        """The version of this interpreter, such as ``"3.12.1"``."""
        return ".".join(map(str, sys.version_info[:3]))

    @property
    def ray_version(self) -> str:
        """The version of skate; in a program that knows it as ray, that of Ray's API."""
        return str(_skate().__version__)

    @property
    def ray_commit(self) -> str:
        """The commit that skate was built from, if known."""
        return str(_skate().__commit__)

    def __repr__(self) -> str:
        return (
            f"RayContext(address={self.address_info['address']!r}, python_version={self.python_version!r}, "
            f"ray_version={self.ray_version!r})"
        )


def _skate() -> Any:
    return sys.modules["ray" if os.environ.get("SKATE_AS_RAY") and "ray" in sys.modules else "skate"]


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    object_store_memory: int | None = None,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    configure_logging: bool = True,
    logging_level: Any = "info",
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    mode: str | None = None,
    _system_config: dict[str, Any] | None = None,
    **kwargs: Any,
) -> RayContext:
    """Start the runtime on this machine and connect this process to it as a driver.

    Not needed for most programs: the first ``.remote()`` or ``put`` does it with the defaults.

    Args:
        address: "auto": join the session that runs on this machine; a session's folder: join that
            one; "local": a session of this process's own. None: what SKATE_ADDRESS or RAY_ADDRESS
            says, else the session of `skate start --head` if there is one, else one of its own.
        num_cpus: CPUs to schedule on; default: what this process may use, cgroups respected.
        num_gpus: GPUs to schedule on, as a count.
        resources: amounts of resources of your own: ``{"license": 2}``.
        object_store_memory: bytes of shared memory for objects; default 30 % of the machine's memory.
            It is taken only as objects need it.
        ignore_reinit_error: return the running session's addresses instead of raising.
        include_dashboard: of a Ray cluster that this call starts; the runtime has no dashboard.
        configure_logging, logging_level: taken for Ray's sake: the runtime prints nothing by itself.
        logging_config: a ``LoggingConfig``: how the program's own logging looks, in all its processes.
        job_config: a ``JobConfig``: the same, metadata, and more, in one object.
        labels: of this node: ``{"zone": "a"}``; see the option ``label_selector``.
        log_to_driver: show what workers print (default True).
        namespace: of named actors; default: one that only this job knows.
        runtime_env: what workers of this job find: variables, files, packages (see
            ``skate.runtime_env``). Tasks and actors can have their own on top.
        mode: "inline": no processes are started; everything runs in this one, call after call, for unit
            tests and debuggers. "cluster": the real thing. None: what SKATE_MODE says, else the real
            thing. docs/testing.md lists the differences.
        object_spilling_directory: where objects go when their memory is full; default: the temporary
            folder, or /var/tmp if that is memory itself.
        _system_config: knobs of ``skate._base.config``; unknown ones are ignored.

    Returns:
        The session's addresses.

    Raises:
        RuntimeError: this process is connected already.
        ConnectionError: nobody answers at the address.
        ValueError: amounts were given for a session that runs already.
        TypeError: an argument is wrong.

    Example:
        >>> skate.init(num_cpus=4)
    """
    with _starting.lock:
        if engine() is not None:
            if ignore_reinit_error:
                return session_context()
            raise RuntimeError(
                "Maybe you called init() twice by accident? This process is connected already. Call "
                "shutdown() first, or pass ignore_reinit_error=True. (Maybe you called ray.init twice by "
                "accident?)"
            )
        _starting.start(
            address,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            resources=resources,
            object_store_memory=object_store_memory,
            log_to_driver=log_to_driver,
            namespace=namespace,
            runtime_env=runtime_env,
            mode=mode,
            _system_config=_system_config,
            include_dashboard=include_dashboard,
            **kwargs,
        )
        return session_context()


def session_context() -> RayContext:
    """Return what ``init`` returned, in any process of a session."""
    return RayContext(require_engine("init").addresses())


def shutdown(wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """End the session that this process started, or its part in one that it joined: tasks, actors
    (but for detached ones), objects, processes.

    Refs and handles of it are useless afterwards; views of its objects stay valid. Without a session
    it does nothing. Runs by itself when the interpreter ends.

    Args:
        wait_for_processes: taken for Ray's sake; all processes have ended when this returns.

    Example:
        >>> skate.shutdown()
    """
    _starting.stop()


def is_initialized() -> bool:
    """Tell whether this process is connected to a session: a driver after ``init``, or a worker."""
    return engine() is not None


@overload
def remote(__function: type[C]) -> ActorClass[C]: ...  # type: ignore[overload-overlap]
@overload
def remote(__function: Callable[P, R]) -> RemoteFunction[P, R]: ...
@overload
def remote(*args: Any, **kwargs: Any) -> Callable[[Any], Any]: ...
def remote(*args: Any, **kwargs: Any) -> Any:
    """Make a function a task, or a class an actor class.

    Bare (``@skate.remote``) or with options (``@skate.remote(num_cpus=2)``).

    Args:
        num_cpus: CPUs that it needs; default 1 for tasks; see ActorClass for actors. Fractions are fine.
        num_gpus: GPUs that it needs.
        resources: amounts of your own resources: ``{"license": 1}``.
        runtime_env: variables, files and packages of its process: see ``skate.runtime_env``.
        memory: bytes of memory that it needs, as a resource to schedule by: tasks whose sum is more than the
            node has wait for each other. Nobody stops one that uses more.
        object_store_memory: the same, of the memory for objects.
        label_selector: labels that its node must have: ``{"zone": "a"}``, also ``"!a"``, ``"in(a, b)"`` and
            ``"!in(a, b)"``; see ``init(labels=...)``.
        fallback_strategy: other selectors, in order, for when no node has those:
            ``[{"label_selector": {}}]``.
        scheduling_strategy: "DEFAULT", "SPREAD" or one of ``skate.util.scheduling_strategies``.
        enable_task_events: False: neither ``skate list`` nor the state API tell of it.
        num_returns: (tasks) how many values it returns, each with a ref of its own; default 1.
        max_retries: (tasks) how often it is run again after a crash of its worker; default 3, -1: always.
        name: of the task, for people; or the actor's name, for ``get_actor``.
        namespace: (actors) of the name.
        get_if_exists: (actors) return the actor that has the name, if there is one.
        max_restarts: (actors) how often its process is started again after a crash; default 0, -1: always.
        max_task_retries: (actors) how often a call is repeated after a crash; default 0, -1: always.
        lifetime: (actors) "detached": it lives on when its creator and all handles are gone, until it
            is killed or the session ends.
        max_concurrency: (actors) calls at a time: on as many threads, or interleaved if methods are
            ``async def``; default 1, for async actors 1000.
        concurrency_groups: (actors) further limits by name: ``{"io": 2}``; see ``method``.

    Returns:
        A RemoteFunction or an ActorClass.

    Raises:
        TypeError, ValueError: an option is unknown or has a wrong value.

    Example:
        >>> @skate.remote
        ... def square(x: int) -> int:
        ...     return x * x
        >>> skate.get([square.remote(i) for i in range(3)])
        [0, 1, 4]
    """
    if len(args) == 1 and not kwargs and callable(args[0]):
        return _make_remote(args[0], {})
    if args or not kwargs:
        raise TypeError(
            "The @ray.remote decorator must be applied either with no arguments and no parentheses, or with "
            "options by name: @remote, or @remote(num_cpus=2)"
        )
    return lambda target: _make_remote(target, kwargs)


def _make_remote(target: Any, given: dict[str, Any]) -> Any:
    if isinstance(target, (RemoteFunction, ActorClass)):
        what = "must be applied to either a function or a class"
        raise TypeError(f"remote {what}; {target!r} is remote already: .options(...) changes its options")
    if isinstance(target, type) or isinstance(getattr(target, "__origin__", None), type):
        return ActorClass(target, given)
    if not callable(target):
        raise TypeError(f"remote must be applied to either a function or a class, got {target!r}")
    return RemoteFunction(target, given)


@overload
def get(object_refs: Sequence[ObjectRef[T]], *, timeout: float | None = None) -> list[T]: ...
@overload
def get(object_refs: ObjectRef[T], *, timeout: float | None = None) -> T: ...
def get(object_refs: Any, *, timeout: float | None = None, _use_object_store: bool = False) -> Any:
    """Return the value of a ref, or of each ref of a list; wait until they are there.

    Large numpy arrays, Arrow tables and other buffers are read-only views of shared memory.

    Args:
        object_refs: one ref, or a list of refs. (A generator of refs is returned as it is.)
        timeout: seconds to wait; None: for ever. 0 asks without waiting.

    Returns:
        The value, or the list of the values in the order of the refs.

    Raises:
        GetTimeoutError: the time is up (a TimeoutError).
        RayTaskError: the task raised; also an instance of the exception's own type.
        ActorDiedError, WorkerCrashedError, ObjectLostError, ...: it cannot be had; the message says why.
        ValueError: neither a ref nor a list was given.
        TypeError: the list has something else than refs in it.

    Example:
        >>> skate.get(skate.put("x"))
        'x'
    """
    found = engine()
    if found is None:
        found = connected_engine()
    if timeout is not None:
        check_timeout(timeout)
    if type(object_refs) is ObjectRef:
        try:
            return found.get_one(object_refs, timeout)
        except BaseException as error:
            __tracebackhide__ = True  # by pytest and IPython
            raise shortened(error)
    if not isinstance(object_refs, (list, tuple)):
        if hasattr(object_refs, "__skate_get__"):  # what executions of compiled graphs return
            return object_refs.__skate_get__(timeout)
        if isinstance(object_refs, ObjectRefGenerator):
            return object_refs
        raise ValueError(
            f"get() takes an ObjectRef or a list of them. Invalid type of object refs, {type(object_refs)}, "
            f"is given: {object_refs!r:.80}{_hint(object_refs)}"
        )
    for index, ref in enumerate(object_refs):
        if type(ref) is not ObjectRef:
            if all(hasattr(one, "__skate_get__") for one in object_refs):
                return [one.__skate_get__(timeout) for one in object_refs]
            raise TypeError(
                f"get() takes an ObjectRef or a list of them. Attempting to call `get` on the value "
                f"{ref!r:.80}, which is not an ray.ObjectRef (element {index}, "
                f"{type(ref).__name__}){_hint(ref)}"
            )
    try:
        return found.get(object_refs, timeout)
    except BaseException as error:
        __tracebackhide__ = True
        raise shortened(error)


def put(value: T, *, _owner: Any = None, _tensor_transport: Any = None) -> ObjectRef[T]:
    """Store a value and return a ref to it; pass the ref instead of the value to many tasks.

    Args:
        value: anything that can be pickled.

    Returns:
        The ref. This process owns the object.

    Raises:
        TypeError: it cannot be pickled (the message names the culprit), or it is a ref already.
        ObjectStoreFullError: there is no room for it.

    Example:
        >>> ref = skate.put([1, 2, 3])
    """
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ray.ObjectRef is not allowed: the value is in the store already. Pass the "
            "ref on, or put a list of it"
        )
    if _owner is not None:
        raise ValueError("put(_owner=...) is not supported by this version of skate yet")
    return connected_engine().put(value)


#: Values that users pass to get() by mistake, and what to do with them.
_HINTS: tuple[tuple[Any, str], ...] = (
    (ObjectRefGenerator, ". Loop over it: each item is a ref."),
    ((RemoteFunction, ActorMethod), ". Call it first: .remote(...) returns a ref."),
    (ActorHandle, ". An actor is no value: get what its methods return."),
    ((str, bytes), ""),
    (Iterable, ". Make one flat list of refs."),
)


def _hint(value: Any) -> str:
    return next((hint for kind, hint in _HINTS if isinstance(value, kind)), "")


def cancel(
    ray_waitable: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel the task or the actor's call that makes an object; nothing happens if it is there already.

    A call that has not begun never runs. A running task gets a KeyboardInterrupt, a coroutine of an async
    actor a CancelledError; another method of an actor is not interrupted, but may ask
    ``get_runtime_context().is_canceled()``. Callers of a cancelled task get a TaskCancelledError within a
    second, even if the task goes on. For a call that had begun, the error is a RayTaskError as well, whatever
    the call did with the interrupt. A cancelled call does not run again, whatever its retries, and no other
    call is disturbed.

    Args:
        ray_waitable: a ref that ``.remote()`` returned, or a generator of refs.
        force: end the task's process instead. Only for tasks.
        recursive: cancel as well what the task or call has called itself.

    Raises:
        TypeError: something else was given.
        ValueError: ``force`` for an actor's call.

    Example:
        >>> ref = endless.remote()
        >>> skate.cancel(ref)
        >>> skate.get(ref)
        Traceback (most recent call last):
        RayTaskError(TaskCancelledError): endless was cancelled while it ran in worker process 123; ...
    """
    if isinstance(ray_waitable, ObjectRefGenerator):
        ray_waitable = ray_waitable.completed()
    if type(ray_waitable) is not ObjectRef:
        raise TypeError(
            "ray.cancel() only supported for object refs, those of tasks and of calls of actors. For actors, "
            f"try ray.kill(). Got: {type(ray_waitable)} ({ray_waitable!r:.80})"
        )
    connected_engine().cancel(ray_waitable, force, recursive)


def wait(
    ray_waitables: list[ObjectRef[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef[T]], list[ObjectRef[T]]]:
    """Wait until some of the refs have values.

    Args:
        ray_waitables: a list of different refs.
        num_returns: how many to wait for.
        timeout: seconds to wait at most; None: for ever; 0: just look.
        fetch_local: taken for Ray's sake: on one machine every value is local.

    Returns:
        (ready, not ready), each in the order given; at most ``num_returns`` are in the first.

    Raises:
        TypeError, ValueError: the list is no list of different refs, or ``num_returns`` does not fit it.

    Example:
        >>> ready, rest = skate.wait(refs, num_returns=2, timeout=1.0)
    """
    found = engine()
    if found is None:
        found = connected_engine()
    ray_waitables = check_wait(ray_waitables, num_returns, timeout)
    if not ray_waitables:
        return [], []
    try:
        return found.wait(ray_waitables, num_returns, timeout)
    except BaseException as error:
        __tracebackhide__ = True
        raise shortened(error)


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """End an actor's process at once; calls under way raise ActorDiedError at their callers.

    Args:
        actor: its handle.
        no_restart: False: a restart takes place if ``max_restarts`` allows one.

    Raises:
        ValueError: that is no actor handle.
        ActorHandleNotFoundError: the actor is of another session (a ValueError).

    Example:
        >>> skate.kill(counter)
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            "ray.kill() only supported for actors, by their handles. For tasks, try ray.cancel(). "
            f"Got: {type(actor)}."
        )
    connected_engine().kill_actor(actor._info.actor_id, no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """Return a handle to the living actor of that name.

    Args:
        name: as given in ``.options(name=...)``.
        namespace: where the name was given; default: this job's.

    Raises:
        ValueError: there is none, or the name or the namespace is empty.
        TypeError: the name or the namespace is no string.

    Example:
        >>> skate.get_actor("counter")
    """
    if not name:
        raise ValueError(
            f"get_actor() takes a name, got {name!r}. Please supply a non-empty value to get_actor"
        )
    if not isinstance(name, str):
        raise TypeError(f"get_actor() takes a name as a string, got {name!r} ({type(name).__name__})")
    check_namespace(namespace)
    return ActorHandle(connected_engine().find_actor(name, namespace))
