"""Ray as an engine: each call of the public API becomes a call of Ray's public API."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from skate._base import errors
from skate._base.class_proxy import hidden
from skate._base.code_flags import is_generator
from skate._base.resources import to_fixed
from skate._environment.spec import Environment
from skate._on_ray import OWN_VARIABLES, calls, groups, serializers
from skate._on_ray.bars import Bars
from skate._on_ray.errors import Translating
from skate._on_ray.graphs import RayGraphBuilder
from skate._on_ray.metrics import Forwarder
from skate._on_ray.refs import Actor, actor_of, argument, made, native, unwrapped_value, wrapped
from skate._wire.control import NodeInfo
from skate.engine.interface import ActorInfo, GroupRequest, Identity, Rows, RunningActor, RunningCall, Submit
from skate.engine.metrics import registry
from skate.engine.refs import ObjectRef, ObjectRefGenerator
from skate.options import ActorOptions, TaskOptions, check_group

if TYPE_CHECKING:
    from types import FrameType

    from skate.engine.interface import Engine


class RayEngine:
    """Engine on Ray, in a driver or a worker of the cluster. See Engine for what the methods do.

    Args:
        ray: the module, connected.
    """

    name = "ray"

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        #: Actor classes, as Ray has them: it exports each once.
        self._classes: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
        self._forwarder: Forwarder | None = None
        self._bars: Bars | None = None
        self.serializers_changed()

    # ------------------------------------------------------------------ calls

    def bind_function(self, function: Any, name: str, options: TaskOptions) -> Submit:
        """See Engine."""
        self._check_streams(name, options.num_returns, is_generator(function))
        given = calls.task_options(options.given, self._ray)
        plain = calls.plain_function(function, options.num_returns == "streaming")
        remote = (self._ray.remote(**given) if given else self._ray.remote)(plain)
        return _submit(remote.remote)

    def bind_method(self, info: ActorInfo, method: str, options: Mapping[str, Any]) -> Submit:
        """See Engine."""
        name = f"{info.class_name}.{method}"
        check_group(options.get("concurrency_group"), info.groups, name)
        self._check_streams(name, options.get("num_returns"), bool(options.get("is_generator")))
        bound = getattr(self._handle(info).handle, method)
        given = calls.method_options(options)
        return _submit((bound.options(**given) if given else bound).remote)

    def _check_streams(self, name: str, num_returns: Any, has_yield: bool) -> None:
        """Raise where items of a generator cannot come one by one: through Ray Client."""
        if num_returns != "streaming" and not (num_returns is None and has_yield):
            return
        client = sys.modules.get("ray.util.client")
        if client is not None and client.ray.is_connected():
            raise NotImplementedError(
                f"{name} is a generator whose items come one by one, and a connection by ray:// (Ray Client) "
                "has none; skate.data needs them, too. Run the program on the cluster: by `ray job submit`, "
                "or with init(address='ray') on one of its machines"
            )

    def create_actor(
        self,
        cls: type,
        methods: dict[str, dict[str, int | str]],
        args: Any,
        kwargs: Any,
        options: ActorOptions,
    ) -> ActorInfo:
        """See Engine."""
        limits = options.concurrency_groups
        with hidden():
            remote = self._class(cls, limits)
            given = calls.actor_options(options.given, self._ray)
            if given:
                remote = remote.options(**given)
            actor: Actor = _submit(remote.remote, wrap=Actor)(args, kwargs)
        info = self._info(
            actor, cls.__name__, methods, options.max_task_retries, options.max_pending_calls, tuple(limits)
        )
        if options.name:
            # Ray's handles, by which the actor is found, know nothing of skate's defaults of methods.
            facts = json.dumps([info.class_name, methods, *info[3:5], list(limits)])
            self.key_value("put", _ACTORS, info.actor_id, facts.encode(), True)
        return info

    def _class(self, cls: type, groups: Mapping[str, int]) -> Any:
        """Return a class as Ray has it: made once, as Ray pickles each of them."""
        kinds = self._classes.setdefault(cls, {})
        key = json.dumps(groups)
        if key not in kinds:
            make = self._ray.remote(concurrency_groups=dict(groups)) if groups else self._ray.remote
            # A generic class with its parameters has a class below it.
            kinds[key] = make(getattr(cls, "__origin__", cls))
        return kinds[key]

    def _info(
        self,
        actor: Actor,
        class_name: str,
        methods: dict[str, dict[str, int | str]],
        max_task_retries: int = 0,
        max_pending_calls: int = -1,
        groups: tuple[str, ...] = (),
    ) -> ActorInfo:
        return ActorInfo(
            actor.id, class_name, methods, max_task_retries, max_pending_calls, False, actor, groups  # type: ignore[arg-type]
        )  # fmt: skip

    def _handle(self, info: ActorInfo) -> Actor:
        """Return Ray's handle in one of skate's; it may have come from another process."""
        actor: Any = info.ref
        if type(actor) is not Actor:
            raise errors.ActorHandleNotFoundError(
                f"the handle of {info.class_name} names an actor of another session, not of this Ray cluster"
            )
        return actor

    def _info_of(self, handle: Any) -> ActorInfo:
        """Return what a handle of skate's is made of, for an actor that Ray knows."""
        names = [name for name in dir(handle) if not name.startswith("_")]
        methods: dict[str, dict[str, int | str]] = {name: {} for name in names if name not in _NO_METHODS}
        return self._info(Actor(handle), _class_name(handle), methods)

    def find_actor(self, name: str, namespace: str | None) -> ActorInfo:
        """See Engine."""
        handle = _asked(self._ray.get_actor, name, namespace=namespace)
        facts = self.key_value("get", _ACTORS, handle._actor_id.binary(), b"", False)
        if facts is None:
            return self._info_of(handle)  # a plain Ray program made it
        class_name, methods, retries, pending, groups = json.loads(facts)
        return self._info(Actor(handle), class_name, methods, retries, pending, tuple(groups))

    def kill_actor(self, actor_id: bytes, no_restart: bool) -> None:
        """See Engine."""
        found = actor_of(actor_id)
        if found is None:
            raise errors.ActorHandleNotFoundError(
                f"kill(): this process has no handle of the actor {actor_id.hex()} on this Ray cluster"
            )
        _asked(self._ray.kill, found.handle, no_restart=no_restart)

    def exit_actor(self) -> NoReturn:
        """See Engine."""
        self._ray.actor.exit_actor()
        raise AssertionError("Ray's exit_actor() raises")

    def forget_class(self, cls: Any) -> None:
        """See Engine."""
        self._classes.pop(cls, None)

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """See Engine."""
        _asked(self._ray.cancel, native(ref), force=force, recursive=recursive)

    # ------------------------------------------------------------------ values

    def put(self, value: Any) -> ObjectRef[Any]:
        """See Engine."""
        return wrapped(_asked(self._ray.put, value))

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """See Engine."""
        found = _asked(self._ray.get, [native(ref) for ref in refs], timeout=timeout)
        return [unwrapped_value(value) for value in found]

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        """See Engine."""
        return unwrapped_value(_asked(self._ray.get, native(ref), timeout=timeout))

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """See Engine."""
        by_native = {_waitable(ref): ref for ref in refs}
        ready, rest = _asked(self._ray.wait, list(by_native), num_returns=num_returns, timeout=timeout)
        return [by_native[one] for one in ready], [by_native[one] for one in rest]

    def adopt_ref(self, object_id: bytes, owner_address: str) -> ObjectRef[Any]:
        """See Engine."""
        return wrapped(self._ray.ObjectRef(object_id))

    def to_ray(self, ref: ObjectRef[Any]) -> Any:
        """Return Ray's ref: see ``skate.engine.to_ray``."""
        return native(ref)

    def from_ray(self, ref: Any) -> ObjectRef[Any]:
        """Return skate's ref: see ``skate.engine.from_ray``."""
        if not isinstance(ref, self._ray.ObjectRef):
            raise TypeError(f"from_ray() takes a ray.ObjectRef, got {ref!r:.80}")
        return wrapped(ref)

    def free(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """See Engine."""
        raise _absent("free()", "values go when the last ref to them is gone")

    # ------------------------------------------------------------------ the cluster

    @property
    def session_dir(self) -> str:
        """See StateSource."""
        context = self._ray.get_runtime_context()
        try:
            return f"{context.get_temp_dir()}/{context.get_session_name()}"
        except AttributeError:
            # Ray 2.50 cannot be asked, nor a client of a cluster elsewhere, which has no such folder.
            return os.path.realpath("/tmp/ray/session_latest")  # noqa: S108

    def nodes(self) -> list[NodeInfo]:
        """See Engine."""
        found = [
            NodeInfo(
                bytes.fromhex(one["NodeID"]), one["Alive"], one.get("RayletSocketName", ""),
                one["NodeManagerHostname"], 0, to_fixed(one["Resources"]), {}, dict(one.get("Labels") or {}),
                ip=one["NodeManagerAddress"],
            )
            for one in self._ray.nodes()
        ]  # fmt: skip
        # Ray's public API has the sum of what is free, and not of which node; so here the first one has it.
        free = to_fixed(self._ray.available_resources())
        for index, one in enumerate(found):
            if one.alive:
                found[index] = replace(one, available=free)
                break
        return found

    def addresses(self) -> dict[str, Any]:
        """See Engine."""
        context = self._ray.get_runtime_context()
        try:
            address = context.gcs_address
        except AttributeError:  # a client of a cluster elsewhere
            address = "ray://"
        return {
            "node_id": context.get_node_id(),
            "node_ip_address": self._ray.util.get_node_ip_address(),
            "session_dir": self.session_dir,
            "address": address,
            "gcs_address": address,
            "raylet_socket_name": None,
            "webui_url": None,
        }

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """See Engine."""
        found = self._ray.util.list_named_actors(all_namespaces=True)
        names = [(one["namespace"], one["name"]) for one in found]
        return [one for one in names if namespace is None or one[0] == namespace]

    def key_value(self, operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool) -> Any:
        """See Engine."""
        from ray.experimental import internal_kv

        where = namespace or None
        if operation == "put":
            return internal_kv._internal_kv_put(key, value, overwrite, namespace=where)
        if operation == "get":
            return internal_kv._internal_kv_get(key, namespace=where)
        if operation == "exists":
            return internal_kv._internal_kv_exists(key, namespace=where)
        if operation == "list":
            return sorted(internal_kv._internal_kv_list(key, namespace=where))
        by_prefix = operation == "delete_prefix"
        return internal_kv._internal_kv_del(key, del_by_prefix=by_prefix, namespace=where)

    def listed(self, what: str) -> list[Any]:
        """Return the rows of Ray's state API of a kind, such as "actors"."""
        from ray.util import state

        found: list[Any] = getattr(state, f"list_{what}")(
            limit=MOST_ROWS, detail=True, raise_on_missing_output=False
        )
        return found

    def timeline(self, filename: str | None) -> list[dict[str, Any]] | None:
        """Return Ray's own trace, or write it to a file."""
        found: list[dict[str, Any]] | None = self._ray.timeline(filename)
        return found

    def state(self, what: str) -> tuple[list[tuple[int, str, Rows]], list[int]]:
        """See Engine."""
        raise _absent(f"the state {what!r}", "`ray list`, `ray memory` and `ray stack` show this cluster")

    def directory(self, what: str) -> list[Any]:
        """See Engine."""
        if what == "groups":
            return [groups.row(facts) for facts in self._ray.util.placement_group_table().values()]
        raise _absent(f"the directory {what!r}", "`ray list` and ray.util.state show this cluster")

    # ------------------------------------------------------------------ placement groups

    def create_group(self, request: GroupRequest) -> bytes:
        """See Engine."""
        group_id: bytes = _asked(groups.create, self._ray, request)
        return group_id

    def remove_group(self, group_id: bytes) -> None:
        """See Engine."""
        _asked(self._ray.util.remove_placement_group, groups.native_group(self._ray, group_id))

    def find_group(self, name: str, group_id: bytes) -> dict[str, Any] | None:
        """See Engine."""
        found: dict[str, Any] | None = _asked(groups.find, self._ray, name, group_id)
        return found

    def current_group(self) -> tuple[bytes, bool]:
        """See Engine."""
        found = self._ray.util.get_current_placement_group()
        if found is None or not self._is_worker():
            return b"", False
        context = self._ray.get_runtime_context()
        return found.id.binary(), bool(context.should_capture_child_tasks_in_placement_group)

    # ------------------------------------------------------------------ this process

    def identity(self) -> Identity:
        """See Engine."""
        context = self._ray.get_runtime_context()
        kind = "worker" if self._is_worker() else "driver"
        job_id, node_id = context.get_job_id(), context.get_node_id()
        return Identity(
            kind, bytes.fromhex(job_id), bytes.fromhex(node_id), context.namespace, self._environment
        )

    @functools.cached_property
    def _environment(self) -> bytes:
        """The environment of this process as the program wrote it, without skate's own variables."""
        try:
            given = dict(self._ray.get_runtime_context().runtime_env)
        except AttributeError:  # Ray Client does not know it
            return b""
        shown = {name: value for name, value in given.items() if value}
        variables = shown.get("env_vars") or {}
        shown["env_vars"] = {name: value for name, value in variables.items() if name not in OWN_VARIABLES}
        return Environment(shown=shown).encode()

    def running(self) -> RunningCall:
        """See Engine."""
        context = self._ray.get_runtime_context()
        process_id = bytes.fromhex(context.get_worker_id())
        if not self._is_worker():
            return RunningCall(False, process_id, b"", "", None)
        task_id, actor_id = context.get_task_id(), context.get_actor_id()
        actor = None
        if actor_id is not None:
            info = self._info_of(context.current_actor)
            actor = RunningActor(
                info, context.get_actor_name() or "", context.was_current_actor_reconstructed
            )
        name = context.get_task_name() or ""
        return RunningCall(True, process_id, bytes.fromhex(task_id or ""), name, actor)

    def _is_worker(self) -> bool:
        worker = getattr(self._ray.get_runtime_context(), "worker", None)
        return bool(getattr(worker, "mode", None) == self._ray.WORKER_MODE)

    def function_name(self) -> str | None:
        """See Engine."""
        if not self._is_worker():
            return None
        found: str | None = self._ray.get_runtime_context().get_task_function_name()
        return found

    def assigned(self) -> tuple[Mapping[str, float], tuple[str, ...]]:
        """See Engine."""
        context = self._ray.get_runtime_context()
        if not self._is_worker():
            return {}, ()
        gpus = context.get_accelerator_ids().get("GPU", [])
        return dict(context.get_assigned_resources()), tuple(map(str, gpus))

    def is_cancelled(self) -> bool:
        """See Engine."""
        if not self._is_worker():
            raise RuntimeError("is_canceled(): This method is only available when the process is a worker")
        asked = getattr(self._ray.get_runtime_context(), "is_canceled", None)
        if asked is None:
            raise _absent("is_canceled()", f"Ray {self._ray.__version__} has none, and a newer Ray has")
        return bool(asked())

    # ------------------------------------------------------------------ tools

    def metrics_changed(self) -> None:
        """See Engine."""
        if self._forwarder is None:
            from ray.util import metrics

            self._forwarder = Forwarder(registry.rows, metrics)
        self._forwarder.forward()

    def serializers_changed(self) -> None:
        """See Engine."""
        serializers.of_this_process.pass_on()

    def show_bar(self, state: Mapping[str, Any]) -> bool:
        """See Engine."""
        if self._bars is None:
            if not self._is_worker() and importlib.util.find_spec("tqdm") is None:
                return False  # Ray draws by that package
            from ray.experimental import tqdm_ray

            self._bars = Bars(tqdm_ray.tqdm)
        self._bars.show(state)
        return True

    def followed_as(self) -> tuple[bytes, str] | None:
        """See Engine."""
        return None

    def preload(self, modules: Sequence[str]) -> None:
        """See Engine: Ray's workers import by themselves."""

    def on_process_gone(self, callback: Callable[[bytes], object]) -> str:
        """See Engine."""
        return ""

    def set_trace(self, frame: FrameType) -> bool:
        """See Engine."""
        return False

    def post_mortem(self, error: BaseException) -> bool:
        """See Engine."""
        return False

    def compiled_graphs(self) -> Any:
        """See Engine."""
        raise _absent("the connection of skate's compiled graphs", "Ray connects its own")

    def graph_builder(self) -> RayGraphBuilder:
        """See Engine."""
        return RayGraphBuilder(self._handle)


#: The rows that Ray's state API is asked for.
MOST_ROWS = 10_000
#: The namespace, among Ray's key-values, of facts about named actors.
_ACTORS = b"skate-actors"
#: Attributes of Ray's handles besides the methods of their actors.
_NO_METHODS = frozenset({"bind"})


def _absent(what: str, instead: str) -> NotImplementedError:
    return NotImplementedError(
        f"{what} is not there on a Ray cluster, on which this session runs (the engine 'ray'): {instead}"
    )


def _asked(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call Ray; raise what skate raises where it raises."""
    with Translating():
        return function(*args, **kwargs)


def _submit(remote: Callable[..., Any], wrap: Callable[[Any], Any] = made) -> Submit:
    def submit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs:
            kwargs = {key: argument(value) for key, value in kwargs.items()}
        return wrap(_asked(remote, *map(argument, args), **kwargs))

    return submit


def _waitable(ref: ObjectRef[Any]) -> Any:
    return ref._entry.native if isinstance(ref, ObjectRefGenerator) else native(ref)


def _class_name(handle: Any) -> str:
    """Return the name of an actor's class: Ray shows it in the text of a handle, ``Actor(Name, id)``."""
    text = repr(handle)
    return text[text.find("(") + 1 :].partition(",")[0] or "Actor"


if TYPE_CHECKING:
    _is_whole: Callable[[Any], Engine] = RayEngine
