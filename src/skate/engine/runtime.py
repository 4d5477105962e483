"""Our runtime as an engine: what the public API asks, asked of the core of this process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from skate._base import errors, ids
from skate._base.code_flags import is_coroutine, is_generator
from skate._base.resources import to_float
from skate._wire import control, node
from skate._wire.codec import pack, unpack
from skate._worker.calls import code
from skate._worker.calls.stream_calls import DYNAMIC, STREAMING
from skate._worker.core import Core
from skate._worker.execution.exits import ActorExit
from skate._worker.objects.object_ref import ObjectRef, make_ref
from skate._worker.process import current
from skate._worker.process.call_site import call_site, written
from skate.engine.bars import print_state
from skate.engine.groups import Groups
from skate.engine.interface import ActorInfo, Identity, Rows, RunningActor, RunningCall, Submit
from skate.options import ActorOptions, TaskOptions, check_group, retry_blob

if TYPE_CHECKING:
    from types import FrameType

    from skate.engine.interface import Engine
    from skate.engine.session_state import SessionState

#: Calls that an async actor interleaves unless ``max_concurrency`` says otherwise, as in Ray.
ASYNC_CONCURRENCY = 1000


class RuntimeEngine:
    """Engine on the core of this process. See Engine for what the methods do."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._classes: WeakKeyDictionary[type, tuple[bytes, list[ObjectRef[Any]]]] = WeakKeyDictionary()
        #: References to the code and arguments of detached actors, by actor.
        self._detached: dict[bytes, ObjectRef[Any]] = {}
        self.session_dir = core.context.session_dir
        self.groups = groups = Groups(core)
        self.create_group, self.remove_group, self.find_group = groups.create, groups.remove, groups.find
        self.current_group = groups.of_caller
        self.put = core.values.put
        self.get = core.values.get
        self.get_one = core.values.get_one
        self.wait = core.values.wait

    # ------------------------------------------------------------------ tasks

    def bind_function(self, function: Any, name: str, options: TaskOptions) -> Submit:
        """See Engine."""
        core = self.core
        record = core.submission.make_function(function, name, options.threads)
        record.max_calls, record.hidden = options.max_calls, options.hidden
        record.retry = retry_blob(options.retry_exceptions)
        route = core.task_submitter.route(
            options.resources, self._environment(options.runtime_env), options.requirement
        )
        num_returns = returns_of(options.num_returns, is_generator(function))
        retries, label, ahead = options.max_retries, options.name, options.ahead
        submit_task = core.submission.submit_task

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return submit_task(record, args, kwargs, route, num_returns, retries, label, ahead)

        if not options.may_be_captured:
            return submit
        context, by_group = core.context, dict[bytes, Submit]()

        def submit_where_called(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if context.captures:
                group, captures = self.groups.of_caller()
                if captures:
                    if group not in by_group:
                        there = self.groups.take_along(options, name)
                        by_group[group] = self.bind_function(function, name, there)
                    return by_group[group](args, kwargs)
            return submit_task(record, args, kwargs, route, num_returns, retries, label, ahead)

        return submit_where_called

    def _environment(self, given: Mapping[str, Any] | None) -> bytes:
        """Return the environment of a task or actor that was given this ``runtime_env``, here."""
        if not given:
            return self.core.context.environment
        from skate._environment.resolve import resolve

        return resolve(given, self.core.context.environment)

    # ------------------------------------------------------------------ actors

    def bind_method(self, info: ActorInfo, method: str, options: Mapping[str, Any]) -> Submit:
        """See Engine."""
        core = self.core
        with core.context.locked:
            client = core.actor_submitter.client(info.actor_id, info.class_name)
            client.max_pending, client.out_of_order = info.max_pending_calls, info.out_of_order
        num_returns = returns_of(options.get("num_returns"), bool(options.get("is_generator")))
        ahead = max(0, options.get("_generator_backpressure_num_objects") or 0)
        retries: int = options.get("max_task_retries", info.max_task_retries)
        retry = retry_blob(options.get("retry_exceptions"))
        group: str | None = options.get("concurrency_group")
        check_group(group, info.groups, f"{info.class_name}.{method}")
        submit_call, ref = core.submission.submit_call, info.ref
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
        options = self.groups.take_actor_along(options, name)
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
            detached = core.context.job_config.get("detached", False)
        arguments = core.arguments.encode(args, kwargs, f"{name}.__init__", always_inline=detached)
        actor_id = ids.new_actor_id(core.context.job_id)
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
            namespace=core.context.namespace if options.namespace is None else options.namespace,
            owner_job=core.context.job_owner,
            owner_id=core.local.id_here(),
            owner_address=core.context.address,
            handle=b"" if detached else handle.binary(),
            methods=methods,
            max_pending_calls=options.max_pending_calls,
            out_of_order=out_of_order,
            job_config=self._detached_job(actor_id) if detached else b"",
            environment=environment,
            requirement=options.requirement,
            call_site=written(call_site(2)) if core.context.config.record_call_sites else "",
            parent=current.call.get().task_id,
        )
        info = info_of(actor_id, spec, None if detached else handle)
        entry = handle._entry
        if not options.name:
            # Nobody else can know of it yet: its calls wait for it, its creator need not.
            with core.context.locked:
                core.context.check_usable()
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
            with core.context.lock:
                core.refs.stand_for_actor(entry, None)  # there is no actor to end with it
            raise
        found = unpack(data, type=control.FoundActor)
        if found.actor_id != actor_id:
            with core.context.lock:
                core.refs.stand_for_actor(entry, None)
            return self._info(found)
        return info

    def _handle(self, actor_id: bytes, kept: list[ObjectRef[Any]], detached: bool) -> ObjectRef[Any]:
        """Make the object that stands for the actor's handles and keeps its arguments.

        A detached actor does not end with it: there it only keeps the arguments, as long as this
        process lives, for restarts.
        """
        core = self.core
        with core.context.locked:
            entry = core.refs.own(ids.object_id(core.context.worker_id, core.context.next_counter()))
            core.refs.stand_for_actor(entry, None if detached else actor_id)
            core.values.contain(entry, kept)
        handle = make_ref(entry, core.home)
        if detached and kept:
            self._detached[actor_id] = handle
        return handle

    def _detached_job(self, actor_id: bytes) -> bytes:
        """Return the configuration of the job whose root the detached actor will be."""
        import json

        return json.dumps(self.core.context.job_config | {"job_owner": actor_id.hex()}).encode()

    def _class_code(self, cls: type) -> tuple[bytes, list[ObjectRef[Any]]]:
        """Pickle a class once: at its first actor here, as with remote functions."""
        found = self._classes.get(cls)
        if found is None:
            found = self._classes[cls] = code.dump(self.core.context, cls, cls.__name__)
        return found

    def forget_class(self, cls: Any) -> None:
        """An actor class was changed: it is to be pickled anew at its next actor."""
        self._classes.pop(cls, None)

    def find_actor(self, name: str, namespace: str | None) -> ActorInfo:
        """See Engine."""
        core = self.core
        where = core.context.namespace if namespace is None else namespace
        found = unpack(
            core.control.ask(lambda request: control.FindActor(request, name, where)),
            type=control.FoundActor,
        )
        return info_of(found.actor_id, found.spec, None)

    def _info(self, found: control.FoundActor) -> ActorInfo:
        spec = found.spec
        ref = self.core.values.adopt(spec.handle, spec.owner_address) if spec.handle else None
        return info_of(found.actor_id, spec, ref)

    def kill_actor(self, actor_id: bytes, no_restart: bool) -> None:
        """See Engine."""
        where = written(call_site(2))
        reason = (
            f"it was killed by `ray.kill`: kill() was called in {self.core.context.kind} process "
            f"{self.core.context.pid}{where and ' at ' + where}"
        )
        self.core.control.ask(lambda request: control.KillActor(request, actor_id, no_restart, reason))

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """See Engine."""
        core = self.core
        entry = ref._entry
        with core.context.locked:
            core.context.check_usable()
            if force and entry.task is not None and entry.task.actor is not None:
                raise ValueError(
                    f"force=True is not supported for actor tasks, and {entry.task.describe()} is one: it "
                    "ends the process of a task. Use force=False, or kill() for the actor"
                )
            core.canceller.cancel(entry, force, recursive)
            core.context.reactor.flush()

    def exit_actor(self) -> NoReturn:
        """See Engine."""
        raise ActorExit

    def adopt_ref(self, object_id: bytes, owner_address: str) -> ObjectRef[Any]:
        """See Engine."""
        return self.core.values.adopt(object_id, owner_address)

    def free(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """See Engine."""
        self.core.values.free(refs)

    # ------------------------------------------------------------------ the cluster

    def addresses(self) -> dict[str, Any]:
        """See Engine."""
        core = self.core
        return {
            "node_id": core.context.node_id.hex(),
            "node_ip_address": "127.0.0.1",
            "session_dir": core.context.session_dir,
            "address": core.context.session_dir,
            "gcs_address": f"{core.context.session_dir}/control.sock",
            "raylet_socket_name": f"{core.context.session_dir}/node.sock",
            "webui_url": None,
        }

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """See Engine."""
        data = self.core.control.ask(lambda request: control.ListNames(request, namespace))
        return unpack(data, type=list[tuple[str, str]])

    def nodes(self) -> list[control.NodeInfo]:
        """See Engine."""
        return unpack(self.core.control.ask(control.ListNodes), type=list[control.NodeInfo])

    def state(self, what: str) -> tuple[list[tuple[int, str, Rows]], list[int]]:
        """See Engine."""
        return self._state().state(what)

    def directory(self, what: str) -> list[Any]:
        """See Engine."""
        return self._state().directory(what)

    def _state(self) -> SessionState:
        from skate.engine.session_state import SessionState

        return SessionState(self.core.daemon.request, self.core.control.ask, self.session_dir)

    def key_value(self, operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool) -> Any:
        """See Engine."""
        data = self.core.control.ask(
            lambda request: control.KeyValue(request, operation, namespace, key, value, overwrite)
        )
        return unpack(data)

    # ------------------------------------------------------------------ this process

    def identity(self) -> Identity:
        """See Engine."""
        context = self.core.context
        return Identity(context.kind, context.job_id, context.node_id, context.namespace, context.environment)

    def running(self) -> RunningCall:
        """See Engine."""
        core = self.core
        host, call = core.local.hosted(), current.call.get()
        actor = None
        if host is not None:
            info = info_of(host.actor_id, host.spec, None)
            actor = RunningActor(info, host.spec.name, host.incarnation > 0)
        # In-process, tasks run in the driver's own process.
        is_inside = core.context.kind != "driver" or host is not None or call.depth > 0
        return RunningCall(is_inside, core.local.id_here(), call.task_id, call.name, actor)

    def function_name(self) -> str | None:
        """See Engine."""
        function = current.call.get().function
        if isinstance(function, current.CodeName):
            return f"{function.module}.{function}"
        host = self.core.local.hosted()
        if not function or host is None:
            return function or None
        return host.full_name(function.rpartition(".")[2])

    def assigned(self) -> tuple[Mapping[str, float], tuple[str, ...]]:
        """See Engine."""
        resources, gpus = self.core.local.assigned()
        return to_float(resources), gpus

    def is_cancelled(self) -> bool:
        """See Engine."""
        return self.core.local.is_cancelled()

    # ------------------------------------------------------------------ tools

    @property
    def name(self) -> str:
        """See Engine."""
        return "in-process" if self.core.context.in_process else "skate"

    def metrics_changed(self) -> None:
        """See Engine."""
        self.core.reporter.metrics_changed()

    def serializers_changed(self) -> None:
        """See Engine: our pickler looks at what is registered by itself."""

    def show_bar(self, state: Mapping[str, Any]) -> bool:
        """See Engine."""
        is_worker = self.core.context.kind == "worker"
        if is_worker:
            print_state(state)
        return is_worker

    def followed_as(self) -> tuple[bytes, str] | None:
        """See Engine."""
        return None if self.core.context.in_process else (self.core.context.worker_id, self.session_dir)

    def on_process_gone(self, callback: Callable[[bytes], object]) -> str:
        """See Engine."""
        self.core.borrowing.on_process_gone.append(callback)
        return self.session_dir

    def preload(self, modules: Sequence[str]) -> None:
        """See Engine."""
        if not self.core.context.in_process:
            with self.core.context.locked:
                self.core.daemon.send(node.Preload(list(modules)))
                self.core.daemon.flush()

    def set_trace(self, frame: FrameType) -> bool:
        """See Engine."""
        breakpoints = self.core.breakpoints
        if breakpoints is not None:
            breakpoints.set_trace(frame)
        return breakpoints is not None

    def post_mortem(self, error: BaseException) -> bool:
        """See Engine."""
        breakpoints = self.core.breakpoints
        if breakpoints is not None:
            breakpoints.post_mortem(error)
        return breakpoints is not None

    def graph_builder(self) -> None:
        """See Engine: ``skate.dag`` connects processes of the runtime by itself."""

    def compiled_graphs(self) -> Core:
        """See Engine."""
        if self.core.context.in_process:
            raise NotImplementedError(
                "compiled graphs connect processes with each other; in-process mode (mode='inline') has one. "
                "Run the graph by execute() there, or test it in a real session"
            )
        return self.core


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


def returns_of(given: int | str | None, is_generator: bool) -> int:
    """Return the number of returns, or STREAMING or DYNAMIC: what ``num_returns`` means."""
    if given is None:
        return STREAMING if is_generator else 1
    if isinstance(given, str):
        return STREAMING if given == "streaming" else DYNAMIC
    return given


if TYPE_CHECKING:
    _is_whole: Callable[[Core], Engine] = RuntimeEngine
