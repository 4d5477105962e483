"""The small interface behind the public API, and our runtime as its first implementation.

Nothing above this module knows which engine runs: others (in the driver's own process, on a Ray
cluster) fit in here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from skate._base import errors, ids
from skate._base.code_flags import is_coroutine, is_generator
from skate._base.resources import to_float
from skate._serialize.values import dump_code
from skate._wire import control, node
from skate._wire.codec import pack, unpack
from skate._wire.worker import ALL
from skate._worker.calls import code
from skate._worker.calls.arguments import encode
from skate._worker.calls.stream_calls import DYNAMIC, STREAMING
from skate._worker.core import Core
from skate._worker.execution.exits import ActorExit
from skate._worker.objects.object_ref import ObjectRef, make_ref
from skate._worker.process import current
from skate._worker.process.call_site import call_site, written
from skate.options import ActorOptions, TaskOptions, check_group

Submit = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Runs one call: (args, kwargs) to a ref, a list of refs, or None."""


#: Calls that an async actor interleaves unless ``max_concurrency`` says otherwise, as in Ray.
ASYNC_CONCURRENCY = 1000


class ActorInfo(NamedTuple):
    """What a handle is made of."""

    actor_id: bytes
    class_name: str
    #: Method name to its options.
    methods: dict[str, dict[str, int | str]]
    max_task_retries: int
    #: How many unfinished calls a process may have; below zero: any number.
    max_pending_calls: int
    #: Calls whose arguments are there may leave before those whose are not.
    out_of_order: bool
    #: Stands for all handles: the actor ends when nobody refers to it. None: it does not count.
    ref: ObjectRef[Any] | None
    #: The names of its concurrency groups.
    groups: tuple[str, ...] = ()


class Engine(Protocol):
    """What the public API needs."""

    def bind_function(self, function: Any, name: str, options: TaskOptions) -> Submit:
        """Return what runs the function."""

    def bind_method(self, info: ActorInfo, method: str, options: Mapping[str, Any]) -> Submit:
        """Return what calls the method with these options (see ``options.METHOD_OPTIONS``)."""

    def create_actor(
        self,
        cls: type,
        methods: dict[str, dict[str, int | str]],
        args: Any,
        kwargs: Any,
        options: ActorOptions,
    ) -> ActorInfo:
        """Start an actor, or find the one of that name if the options say so."""

    def find_actor(self, name: str, namespace: str | None) -> ActorInfo:
        """Return the living actor of a name."""

    def kill_actor(self, actor_id: bytes, no_restart: bool) -> None:
        """End an actor's process."""

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """Cancel the call that makes an object."""

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value."""

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Return values."""

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        """Return one value."""

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Return (ready, not ready), in two new lists."""

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """Return (namespace, name) of the living named actors, in one namespace or in all."""

    def nodes(self) -> list[control.NodeInfo]:
        """Return the cluster's nodes."""


class SessionState:
    """What daemon and control store tell of a session: plain rows. See ``skate.util.state``."""

    def __init__(
        self,
        ask_node: Callable[[Callable[[int], Any]], Any],
        ask_control: Callable[[Callable[[int], Any]], bytes],
        session_dir: str,
    ) -> None:
        self.session_dir = session_dir
        self._ask_node = ask_node
        self._ask_control = ask_control

    def state(self, what: str) -> tuple[list[tuple[int, str, list[dict[str, Any]]]], list[int]]:
        """Return the rows of each process (pid, kind, rows), and the pids that did not answer."""
        answer: node.StateAnswer = self._ask_node(lambda request: node.StateQuery(request, what))
        parts = [(pid, kind, unpack(rows, type=list[dict[str, Any]])) for _, pid, kind, rows in answer.parts]
        return parts, answer.silent

    def directory(self, what: str) -> list[Any]:
        """Return "actors", "jobs", "nodes" or "events" as the control store knows them."""
        if what == "nodes":
            nodes = unpack(self._ask_control(control.ListNodes), type=list[control.NodeInfo])
            return [
                {"node_id": one.node_id.hex(), "hostname": one.hostname, "total": to_float(one.resources),
                 "available": to_float(one.available), "labels": one.labels, "started": one.started}
                for one in nodes
            ]  # fmt: skip
        questions: dict[str, Callable[[int], Any]] = {
            "actors": control.ListActors, "jobs": control.ListJobs, "events": control.ListEvents
        }  # fmt: skip
        return unpack(self._ask_control(questions[what]), type=list[Any])

    def kill_actor(self, actor_id: bytes, no_restart: bool, reason: str) -> None:
        """End an actor's process."""
        self._ask_control(lambda request: control.KillActor(request, actor_id, no_restart, reason))


class RuntimeEngine:
    """Engine on the core of this process. See Engine for what the methods do."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._classes: WeakKeyDictionary[type, tuple[bytes, list[ObjectRef[Any]]]] = WeakKeyDictionary()
        #: What the constructors of detached actors got, by actor.
        self._detached: dict[bytes, ObjectRef[Any]] = {}
        self.session_dir = core.session_dir
        self._state = SessionState(core.request, core.control.ask, core.session_dir)
        self.put = core.objects.put
        self.get = core.objects.get
        self.get_one = core.objects.get_one
        self.wait = core.objects.wait

    # ------------------------------------------------------------------ tasks

    def bind_function(self, function: Any, name: str, options: TaskOptions) -> Submit:
        """See Engine."""
        core = self.core
        record = core.calls.make_function(function, name, options.threads)
        record.max_calls, record.hidden = options.max_calls, options.hidden
        record.retry = retry_blob(options.retry_exceptions)
        pool = core.normal.pool(
            options.resources, self._environment(options.runtime_env), options.requirement
        )
        num_returns = returns_of(options.num_returns, is_generator(function))
        retries, label, ahead = options.max_retries, options.name, options.ahead
        submit_task = core.calls.submit_task

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return submit_task(record, args, kwargs, pool, num_returns, retries, label, ahead)

        return submit

    def _environment(self, given: Mapping[str, Any] | None) -> bytes:
        """Return the environment of a task or actor that was given this ``runtime_env``, here."""
        if not given:
            return self.core.environment
        from skate._environment.resolve import resolve

        return resolve(given, self.core.environment)

    # ------------------------------------------------------------------ actors

    def bind_method(self, info: ActorInfo, method: str, options: Mapping[str, Any]) -> Submit:
        """See Engine."""
        core = self.core
        with core.changing:
            client = core.actors.client(info.actor_id, info.class_name)
            client.max_pending, client.out_of_order = info.max_pending_calls, info.out_of_order
        num_returns = returns_of(options.get("num_returns"), bool(options.get("is_generator")))
        ahead = max(0, options.get("_generator_backpressure_num_objects") or 0)
        retries: int = options.get("max_task_retries", info.max_task_retries)
        retry = retry_blob(options.get("retry_exceptions"))
        group: str | None = options.get("concurrency_group")
        check_group(group, info.groups, f"{info.class_name}.{method}")
        submit_call, ref = core.calls.submit_call, info.ref
        name: str | None = options.get("name")
        label = name or f"{info.class_name}.{method}"
        hidden = options.get("enable_task_events") == 0

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return submit_call(
                client, ref, method, label, args, kwargs, num_returns, retries, group, ahead, retry, hidden,
                name,
            )  # fmt: skip

        return submit

    def create_actor(
        self,
        cls: type,
        methods: dict[str, dict[str, int | str]],
        args: Any,
        kwargs: Any,
        options: ActorOptions,
    ) -> ActorInfo:
        """See Engine."""
        core = self.core
        name = cls.__name__
        is_async = any(method.get("is_async") for method in methods.values())
        is_async = is_async or is_coroutine(cls.__init__)  # type: ignore[misc]
        environment = self._environment(options.runtime_env)
        blob, code_refs = self._class_code(cls)
        concurrency = options.max_concurrency or (ASYNC_CONCURRENCY if is_async else 1)
        out_of_order = options.out_of_order
        if out_of_order is None:
            out_of_order = concurrency > 1 or bool(options.concurrency_groups)
        detached = options.detached
        if detached is None:
            detached = core.job_config.get("detached", False)
        arguments = encode(core, args, kwargs, f"{name}.__init__", always_inline=detached)
        actor_id = ids.new_actor_id(core.job_id)
        dependencies = arguments.dependencies or []
        kept = [*code_refs, *arguments.refs, *(ref for _, ref in dependencies)]
        if arguments.blob is not None:
            kept.append(arguments.blob)
        handle = self._handle(actor_id, kept, detached)
        spec = control.ActorSpec(
            class_name=name,
            class_blob=blob,
            args_kind=arguments.kind,
            args=arguments.data,
            dependencies=[(where, ref.binary(), ref.owner_address()) for where, ref in dependencies],
            placement=options.placement,
            running=options.running,
            max_restarts=options.max_restarts,
            max_task_retries=options.max_task_retries,
            max_concurrency=concurrency,
            concurrency_groups=options.concurrency_groups,
            is_async=is_async,
            name=options.name,
            namespace=core.namespace if options.namespace is None else options.namespace,
            owner_job=core.job_owner,
            owner_id=core.id_here(),
            owner_address=core.address,
            handle=b"" if detached else handle.binary(),
            methods=methods,
            max_pending_calls=options.max_pending_calls,
            out_of_order=out_of_order,
            job_config=self._detached_job(actor_id) if detached else b"",
            environment=environment,
            requirement=options.requirement,
            call_site=written(call_site(2)) if core.config.record_call_sites else "",
            parent=current.call.get().task_id,
        )
        info = info_of(actor_id, spec, None if detached else handle)
        entry = handle._entry
        if not options.name:
            # Nobody else can know of it yet: its calls wait for it, its creator need not.
            with core.changing:
                core.check_usable()
                create = functools.partial(
                    control.CreateActor, actor_id=actor_id, spec=pack(spec), get_if_exists=False
                )
                if not core.control.post(create):
                    raise errors.RaySystemError(
                        f"actor {name} cannot be created: the control store of the session is gone. "
                        "Call shutdown() and init() to start anew."
                    )
            return info
        try:
            data = core.control.ask(
                lambda request: control.CreateActor(request, actor_id, pack(spec), options.get_if_exists)
            )
        except BaseException:
            with core.lock:
                entry.label = ""  # there is no actor to end with it
            raise
        found = unpack(data, type=control.FoundActor)
        if found.actor_id != actor_id:
            with core.lock:
                entry.label = ""
            return self._info(found)
        return info

    def _handle(self, actor_id: bytes, kept: list[ObjectRef[Any]], detached: bool) -> ObjectRef[Any]:
        """Make the object that stands for the actor's handles and keeps its arguments.

        A detached actor does not end with it: there it only keeps the arguments, as long as this
        process lives, for restarts.
        """
        core = self.core
        with core.changing:
            entry = core.refs.own(ids.object_id(core.worker_id, core.next_counter()))
            entry.kind = 0
            if not detached:
                entry.label, entry.data = "actor", actor_id
            core.objects.contain(entry, kept)
        handle = make_ref(entry, core)
        if detached and kept:
            self._detached[actor_id] = handle
        return handle

    def _detached_job(self, actor_id: bytes) -> bytes:
        """Return the configuration of the job whose root the detached actor will be."""
        import json

        return json.dumps(self.core.job_config | {"job_owner": actor_id.hex()}).encode()

    def _class_code(self, cls: type) -> tuple[bytes, list[ObjectRef[Any]]]:
        """Pickle a class once: at its first actor here, as with remote functions."""
        found = self._classes.get(cls)
        if found is None:
            found = self._classes[cls] = code.dump(self.core, cls, cls.__name__)
        return found

    def forget_class(self, cls: Any) -> None:
        """An actor class was changed: it is to be pickled anew at its next actor."""
        self._classes.pop(cls, None)

    def find_actor(self, name: str, namespace: str | None) -> ActorInfo:
        """See Engine."""
        core = self.core
        where = core.namespace if namespace is None else namespace
        found = unpack(
            core.control.ask(lambda request: control.FindActor(request, name, where)),
            type=control.FoundActor,
        )
        return info_of(found.actor_id, found.spec, None)

    def _info(self, found: control.FoundActor) -> ActorInfo:
        spec = found.spec
        ref = self.core.objects.adopt(spec.handle, spec.owner_address) if spec.handle else None
        return info_of(found.actor_id, spec, ref)

    def kill_actor(self, actor_id: bytes, no_restart: bool) -> None:
        """See Engine."""
        where = written(call_site(2))
        reason = (
            f"it was killed by `ray.kill`: kill() was called in {self.core.kind} process {os.getpid()}"
            f"{where and ' at ' + where}"
        )
        self.core.control.ask(lambda request: control.KillActor(request, actor_id, no_restart, reason))

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """See Engine."""
        core = self.core
        entry = ref._entry
        with core.changing:
            core.check_usable()
            if force and entry.task is not None and entry.task.actor is not None:
                raise ValueError(
                    f"force=True is not supported for actor tasks, and {entry.task.describe()} is one: it "
                    "ends the process of a task. Use force=False, or kill() for the actor"
                )
            core.canceller.cancel(entry, force, recursive)
            core.reactor.flush()

    # ------------------------------------------------------------------ the cluster

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """See Engine."""
        data = self.core.control.ask(lambda request: control.ListNames(request, namespace))
        return unpack(data, type=list[tuple[str, str]])

    def nodes(self) -> list[control.NodeInfo]:
        """See Engine."""
        return unpack(self.core.control.ask(control.ListNodes), type=list[control.NodeInfo])

    def state(self, what: str) -> tuple[list[tuple[int, str, list[dict[str, Any]]]], list[int]]:
        """Return the rows of each process (pid, kind, rows), and the pids that did not answer."""
        return self._state.state(what)

    def directory(self, what: str) -> list[Any]:
        """Return "actors", "jobs", "nodes" or "events" as the control store knows them."""
        return self._state.directory(what)

    def key_value(self, operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool) -> Any:
        """Read or change the key-value table: see ``control.KeyValue``."""
        data = self.core.control.ask(
            lambda request: control.KeyValue(request, operation, namespace, key, value, overwrite)
        )
        return unpack(data)

    def store_report(self) -> node.StoreReport:
        """Return how full this node's object store is."""
        report = self.core.request(node.StoreStatus)
        assert isinstance(report, node.StoreReport)
        return report


def info_of(actor_id: bytes, spec: control.ActorSpec, ref: ObjectRef[Any] | None) -> ActorInfo:
    """Return what a handle of this actor is made of."""
    return ActorInfo(
        actor_id,
        spec.class_name,
        spec.methods,
        spec.max_task_retries,
        spec.max_pending_calls,
        spec.out_of_order,
        ref,
        tuple(spec.concurrency_groups),
    )


def retry_blob(given: Any) -> bytes | None:
    """Return what ``retry_exceptions`` is in messages: see ``Call.retry``."""
    if isinstance(given, str):
        return given.encode("latin-1")  # as options of methods travel
    if isinstance(given, (list, tuple)):
        return dump_code(tuple(given))[0] if given else None
    return ALL if given else None


def returns_of(given: int | str | None, is_generator: bool) -> int:
    """Return the number of returns, or STREAMING or DYNAMIC: what ``num_returns`` means."""
    if given is None:
        return STREAMING if is_generator else 1
    if isinstance(given, str):
        return STREAMING if given == "streaming" else DYNAMIC
    return given


def engine() -> RuntimeEngine | None:
    """Return the engine of this process, or None before ``init``."""
    core = current.process.core
    if core is None:
        return None
    found = core.engine
    if found is None:
        found = core.engine = RuntimeEngine(core)
    return found  # type: ignore[no-any-return]


def exit_actor() -> None:
    """End the actor whose method calls this, on purpose: it is not restarted.

    The call itself and later ones raise ActorDiedError at their callers.

    Raises:
        TypeError: this is not an actor.

    Example:
        >>> class Worker:
        ...     def stop(self):
        ...         skate.actor.exit_actor()
    """
    core = current.process.core
    if core is None or core.hosted() is None:
        raise TypeError(
            "exit_actor API is called on a non-actor worker: exit_actor() ends the actor whose method calls "
            "it, and this process is not an actor"
        )
    raise ActorExit


def node_labels(core: Core) -> dict[str, str]:
    """Return the labels of the node that this process runs on."""
    nodes = unpack(core.control.ask(control.ListNodes), type=list[control.NodeInfo])
    return next((dict(one.labels) for one in nodes if one.node_id == core.node_id), {})


def cluster_total(nodes: Sequence[control.NodeInfo], *, available: bool) -> dict[str, float]:
    """Return the sum of the nodes' resources, in all or free; what is lent out counts as used."""
    total: dict[str, int] = {}
    for one in nodes:
        for name, units in (one.available if available else one.resources).items():
            total[name] = total.get(name, 0) + max(0, units)
    return to_float({name: units for name, units in total.items() if units > 0})
