"""An engine without a runtime: it runs everything at once, where it is called, and remembers what was asked.

The smallest thing that the public API works on. It shows what an engine on another cluster has to have, and
that nothing above needs more.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

from skate._base.code_flags import is_generator
from skate._base.errors import ActorAlreadyExistsError, ActorDiedError, RayTaskError
from skate._base.ids import ACTOR_ID_SIZE, JOB_ID_SIZE, NODE_ID_SIZE, OBJECT_ID_SIZE, TASK_ID_SIZE
from skate._base.kinds import ERROR, PICKLE
from skate._base.resources import to_fixed, to_float
from skate._serialize.tracebacks import format_error
from skate._wire.control import NodeInfo
from skate._worker.objects.object_ref import adopt, make_ref
from skate._worker.objects.refs import ObjectEntry
from skate.engine.interface import ActorInfo, GroupRequest, Identity, Rows, RunningActor, RunningCall, Submit
from skate.engine.refs import ObjectRef, ObjectRefGenerator
from skate.options import ActorOptions, TaskOptions, check_group

NODE = bytes(NODE_ID_SIZE)
LABELS = {"zone": "a"}


class ActorExit(BaseException):
    """An actor ends itself."""


class Items(ObjectRefGenerator[Any]):
    """What a call of a generator returns."""

    __slots__ = ("refs",)

    def __init__(self, refs: Sequence[ObjectRef[Any]]) -> None:
        self.refs = iter(refs)

    def __next__(self) -> ObjectRef[Any]:
        return next(self.refs)

    def __repr__(self) -> str:
        return "Items()"


class Actor:
    def __init__(self, info: ActorInfo, instance: Any, name: str, namespace: str) -> None:
        self.info, self.instance, self.name, self.namespace = info, instance, name, namespace


class Home:
    """What a ref asks of where it comes from: see ``skate._worker.objects.home``."""

    def __init__(self, engine: RecordingEngine) -> None:
        self.dead_refs: deque[Any] = deque(maxlen=0)
        self.reactor = SimpleNamespace(blocked_in_poll=False)
        self.context = SimpleNamespace(
            job_id=engine.identity().job_id, address="recording", locked=threading.RLock()
        )
        #: Nothing is counted.
        self.refs = SimpleNamespace(add_local=lambda entry: None, pin=lambda entry: None)
        self.futures = self
        self._engine = engine

    def reduce(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        return adopt, (ref.binary(), self.context.address)

    def as_concurrent_future(self, ref: ObjectRef[Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self._engine.get_one(ref, None))
        except BaseException as error:
            future.set_exception(error)
        return future

    def as_asyncio_future(self, ref: ObjectRef[Any]) -> asyncio.Future[Any]:
        return asyncio.wrap_future(self.as_concurrent_future(ref))

    def call_back(self, ref: ObjectRef[Any], callback: Callable[[Any, BaseException | None], object]) -> None:
        def done(future: asyncio.Future[Any]) -> None:
            error = future.exception()
            callback(None if error is not None else future.result(), error)

        self.as_asyncio_future(ref).add_done_callback(done)


class RecordingEngine:
    """Engine on plain Python. ``asked`` has the name and the arguments of everything that was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.session_dir = "/recording/session"
        self.table: dict[tuple[bytes, bytes], bytes] = {}
        self.actors: dict[bytes, Actor] = {}
        self.groups: dict[bytes, dict[str, Any]] = {}
        self._values: dict[bytes, tuple[Any, BaseException | None]] = {}
        self._numbers = itertools.count(1)
        self._running: list[tuple[str, Actor | None, dict[str, float]]] = []
        self._home = Home(self)

    # ------------------------------------------------------------------ calls

    def bind_function(self, function: Any, name: str, options: TaskOptions) -> Submit:
        self.asked.append(("bind_function", name, options))
        label = options.name or name
        held = to_float(options.resources)

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.asked.append(("submit", label, args, kwargs))
            return self._call(function, args, kwargs, label, options.num_returns, None, held)

        return submit

    def bind_method(self, info: ActorInfo, method: str, options: Mapping[str, Any]) -> Submit:
        self.asked.append(("bind_method", info.class_name, method, dict(options)))
        name = f"{info.class_name}.{method}"
        check_group(options.get("concurrency_group"), info.groups, name)

        def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.asked.append(("submit", name, args, kwargs))
            actor = self.actors.get(info.actor_id)
            if actor is None:
                return self._new_ref(
                    None, ActorDiedError(f"{info.class_name} was killed", info.actor_id.hex())
                )
            function = getattr(actor.instance, method)
            return self._call(function, args, kwargs, name, options.get("num_returns"), actor, {})

        return submit

    def create_actor(
        self,
        cls: type,
        methods: dict[str, dict[str, int | str]],
        args: Any,
        kwargs: Any,
        options: ActorOptions,
    ) -> ActorInfo:
        self.asked.append(("create_actor", cls.__name__, args, kwargs, options))
        namespace = self.identity().namespace if options.namespace is None else options.namespace
        for actor in self.actors.values():
            if options.name and (actor.name, actor.namespace) == (options.name, namespace):
                if options.get_if_exists:
                    return actor.info
                raise ActorAlreadyExistsError(f"the name {options.name!r} is taken")
        actor_id = next(self._numbers).to_bytes(ACTOR_ID_SIZE, "little")
        info = ActorInfo(
            actor_id, cls.__name__, methods, options.max_task_retries, options.max_pending_calls,
            bool(options.out_of_order), None, tuple(options.concurrency_groups),
        )  # fmt: skip
        instance = cls(*map(self._value, args), **{key: self._value(value) for key, value in kwargs.items()})
        self.actors[actor_id] = Actor(info, instance, options.name, namespace)
        return info

    def find_actor(self, name: str, namespace: str | None) -> ActorInfo:
        where = self.identity().namespace if namespace is None else namespace
        for actor in self.actors.values():
            if (actor.name, actor.namespace) == (name, where):
                return actor.info
        raise ValueError(f"Failed to look up actor with name {name!r}")

    def kill_actor(self, actor_id: bytes, no_restart: bool) -> None:
        self.asked.append(("kill_actor", actor_id, no_restart))
        del self.actors[actor_id]

    def exit_actor(self) -> NoReturn:
        raise ActorExit

    def forget_class(self, cls: Any) -> None:
        self.asked.append(("forget_class", cls))

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        self.asked.append(("cancel", ref, force, recursive))

    def _call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
        num_returns: int | str | None,
        actor: Actor | None,
        held: dict[str, float],
    ) -> Any:
        if num_returns is None:
            num_returns = "streaming" if is_generator(function) else 1
        count = num_returns if isinstance(num_returns, int) else 1
        try:
            with self._inside(name, actor, held):
                values = [self._value(one) for one in args]
                made = function(*values, **{key: self._value(one) for key, one in kwargs.items()})
                if num_returns == "streaming":
                    made = list(made) if is_generator(function) else [made]
        except BaseException as error:
            failed = RayTaskError(name, format_error(error), error).as_instanceof_cause()
            if num_returns == "streaming":
                return Items([self._new_ref(None, failed)])
            refs = [self._new_ref(None, failed) for _ in range(count)]
        else:
            if num_returns == "streaming":
                return Items([self._new_ref(one) for one in made])
            refs = [self._new_ref(one) for one in (made if count > 1 else [made])] if count else []
        return refs if count > 1 else refs[0] if refs else None

    @contextmanager
    def _inside(self, name: str, actor: Actor | None, held: dict[str, float]) -> Iterator[None]:
        self._running.append((name, actor, held))
        try:
            yield
        finally:
            self._running.pop()

    # ------------------------------------------------------------------ values

    def _new_ref(self, value: Any, error: BaseException | None = None) -> ObjectRef[Any]:
        entry = ObjectEntry(next(self._numbers).to_bytes(OBJECT_ID_SIZE, "little"), None)
        entry.kind = PICKLE if error is None else ERROR
        self._values[entry.id] = value, error
        return make_ref(entry, self._home)  # type: ignore[arg-type]

    def _value(self, given: Any) -> Any:
        return self.get_one(given, None) if isinstance(given, ObjectRef) else given

    def put(self, value: Any) -> ObjectRef[Any]:
        return self._new_ref(value)

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        return [self.get_one(ref, timeout) for ref in refs]

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        value, error = self._values[ref.binary()]
        if error is not None:
            raise error
        return value

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        return refs[:num_returns], refs[num_returns:]

    def adopt_ref(self, object_id: bytes, owner_address: str) -> ObjectRef[Any]:
        self.asked.append(("adopt_ref", object_id, owner_address))
        entry = ObjectEntry(object_id, owner_address)
        entry.kind = PICKLE if self._values[object_id][1] is None else ERROR
        return make_ref(entry, self._home)  # type: ignore[arg-type]

    def free(self, refs: Sequence[ObjectRef[Any]]) -> None:
        self.asked.append(("free", list(refs)))

    # ------------------------------------------------------------------ the cluster

    def nodes(self) -> list[NodeInfo]:
        resources = to_fixed({"CPU": 4})
        return [NodeInfo(NODE, True, "address", "host", 1, resources, to_fixed({"CPU": 3}), LABELS)]

    def addresses(self) -> dict[str, Any]:
        return {"address": "recording", "session_dir": self.session_dir, "gcs_address": "recording:1"}

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        names = [(actor.namespace, actor.name) for actor in self.actors.values() if actor.name]
        return [one for one in names if namespace is None or one[0] == namespace]

    def create_group(self, request: GroupRequest) -> bytes:
        self.asked.append(("create_group", *request))
        group_id = next(self._numbers).to_bytes(OBJECT_ID_SIZE, "little")
        floats = [to_float(one) for one in request.bundles]
        self.groups[group_id] = {
            "group_id": group_id.hex(), "name": request.name, "namespace": "", "strategy": request.strategy,
            "state": "CREATED", "bundles": floats, "placed": [NODE.hex()] * len(floats),
            "scheduling": "FINISHED", "job_id": "", "is_detached": request.detached,
            "attempt": 1, "reason": "", "cause": "", "times": [1.0, 1.5, 0.0],
        }  # fmt: skip
        return group_id

    def remove_group(self, group_id: bytes) -> None:
        self.asked.append(("remove_group", group_id))
        self.groups[group_id] |= {"state": "REMOVED", "cause": "it was removed"}

    def find_group(self, name: str, group_id: bytes) -> dict[str, Any] | None:
        if group_id:
            return self.groups.get(group_id)
        for row in self.groups.values():
            if row["name"] == name and row["state"] != "REMOVED":
                return row
        raise ValueError(f"Failed to look up placement group with name: {name}")

    def current_group(self) -> tuple[bytes, bool]:
        return b"", False

    def key_value(self, operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool) -> Any:
        table, at = self.table, (namespace, key)
        if operation == "put":
            had = at in table
            if overwrite or not had:
                table[at] = value
            return had
        if operation == "get":
            return table.get(at)
        if operation == "exists":
            return at in table
        if operation == "delete":
            return int(table.pop(at, None) is not None)
        matching = sorted(key_ for where, key_ in table if where == namespace and key_.startswith(key))
        if operation == "delete_prefix":
            return sum(table.pop((namespace, one), None) is not None for one in matching)
        return matching

    def state(self, what: str) -> tuple[list[tuple[int, str, Rows]], list[int]]:
        return [], []

    def directory(self, what: str) -> list[Any]:
        return []

    # ------------------------------------------------------------------ this process

    def identity(self) -> Identity:
        return Identity("driver", bytes(JOB_ID_SIZE), NODE, "recorded", b"")

    def running(self) -> RunningCall:
        if not self._running:
            return RunningCall(False, b"process", b"", "", None)
        name, actor, _ = self._running[-1]
        found = RunningActor(actor.info, actor.name, False) if actor is not None else None
        return RunningCall(True, b"process", bytes(TASK_ID_SIZE), name, found)

    def function_name(self) -> str | None:
        return self._running[-1][0] if self._running else None

    def assigned(self) -> tuple[Mapping[str, float], tuple[str, ...]]:
        return (self._running[-1][2] if self._running else {}), ("3", "GPU-ab")

    def is_cancelled(self) -> bool:
        return False

    # ------------------------------------------------------------------ tools

    name = "recording"

    def metrics_changed(self) -> None:
        self.asked.append(("metrics_changed",))

    def serializers_changed(self) -> None:
        self.asked.append(("serializers_changed",))

    def show_bar(self, state: Mapping[str, Any]) -> bool:
        self.asked.append(("show_bar", state["desc"], state["n"]))
        return True

    def followed_as(self) -> tuple[bytes, str] | None:
        return None

    def preload(self, modules: Sequence[str]) -> None:
        self.asked.append(("preload", *modules))

    def on_process_gone(self, callback: Callable[[bytes], object]) -> str:
        return ""

    def set_trace(self, frame: FrameType) -> bool:
        self.asked.append(("set_trace", frame.f_code.co_name))
        return True

    def post_mortem(self, error: BaseException) -> bool:
        self.asked.append(("post_mortem", error))
        return True

    def graph_builder(self) -> None:
        return None

    def compiled_graphs(self) -> Any:
        raise NotImplementedError("the recording engine has no compiled graphs")
