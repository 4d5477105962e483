"""The protocols that an engine implements: all that the public API needs of a runtime.

There are six small ones, by subject, and ``Engine``, which is all of them. Any thread of the program may
call a method. The author of another engine implements these and connects it by ``skate.engine.use``; a method
that an engine cannot support raises an error that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

if TYPE_CHECKING:
    from types import FrameType

    from skate._wire.control import NodeInfo
    from skate._wire.specs import Condition
    from skate.engine.refs import ObjectRef
    from skate.options import ActorOptions, TaskOptions

Submit = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Runs one call: (args, kwargs) to a ref, a list of refs, or None."""

Rows = list[dict[str, Any]]
"""Plain data, one dictionary each. See ``skate.util.state`` for what is in them."""


class ActorInfo(NamedTuple):
    """The fields of an actor handle."""

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


class Identity(NamedTuple):
    """This process in its session; the same as long as it is connected."""

    #: "driver" or "worker".
    kind: str
    job_id: bytes
    node_id: bytes
    #: Of this job's named actors.
    namespace: str
    #: The environment of this process: see ``skate._environment.spec``; empty: none.
    environment: bytes


class GroupRequest(NamedTuple):
    """A placement group that is asked for. See ``skate.util.placement_group``."""

    #: The resources of each bundle, in fixed point.
    bundles: list[dict[str, int]]
    strategy: str
    #: By bundle: the conditions on the labels of its node.
    selectors: list[list[Condition]]
    #: "" for none.
    name: str
    #: It stays when its job ends.
    detached: bool
    #: The node to try first, in hex; "" for none.
    target: str


class RunningActor(NamedTuple):
    """The actor that the caller runs in."""

    #: For a handle that does not keep the actor alive.
    info: ActorInfo
    #: The name it was given, or "".
    name: str
    #: Whether this is not its first incarnation.
    is_restarted: bool


class RunningCall(NamedTuple):
    """The task or the actor's call that the caller runs in; in a driver its fields are empty."""

    #: Whether the caller runs in a task or an actor (in-process mode has them in the driver's process).
    is_inside: bool
    #: Of the process that the caller runs in, or seems to.
    process_id: bytes
    task_id: bytes
    task_name: str
    actor: RunningActor | None


class StateSource(Protocol):
    """The state of a session as rows: of this process's own, or of one that is observed from outside."""

    @property
    def session_dir(self) -> str:
        """The folder of the session."""

    def state(self, what: str) -> tuple[list[tuple[int, str, Rows]], list[int]]:
        """Return the rows of each process (pid, kind, rows), and the pids that did not answer."""

    def directory(self, what: str) -> list[Any]:
        """Return "actors", "jobs", "nodes", "groups" or "events" as the control store knows them."""


class CallEngine(Protocol):
    """Tasks and actors."""

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

    def exit_actor(self) -> NoReturn:
        """End the actor that the caller runs in, by an exception that user code does not catch."""

    def forget_class(self, cls: Any) -> None:
        """Pickle an actor class anew at its next actor: it was changed."""

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """Cancel the call that makes an object."""


class ObjectEngine(Protocol):
    """Values."""

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

    def adopt_ref(self, object_id: bytes, owner_address: str) -> ObjectRef[Any]:
        """Return a ref that was pickled, by the id and the owner's address that it was pickled with."""

    def free(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Give up values though refs to them are left."""


class ClusterEngine(StateSource, Protocol):
    """The cluster and its tables."""

    def nodes(self) -> list[NodeInfo]:
        """Return the cluster's nodes."""

    def addresses(self) -> dict[str, Any]:
        """Return the session's addresses, as ``init`` returns them."""

    def actor_names(self, namespace: str | None) -> list[tuple[str, str]]:
        """Return (namespace, name) of the living named actors, in one namespace or in all."""

    def key_value(self, operation: str, namespace: bytes, key: bytes, value: bytes, overwrite: bool) -> Any:
        """Read or change the key-value table: see ``skate.experimental.internal_kv``."""


class GroupEngine(Protocol):
    """Placement groups."""

    def create_group(self, request: GroupRequest) -> bytes:
        """Have bundles of resources reserved together; return the group's id. See
        ``skate.util.placement_group``."""

    def remove_group(self, group_id: bytes) -> None:
        """Remove a group, and end what runs in it."""

    def find_group(self, name: str, group_id: bytes) -> dict[str, Any] | None:
        """Return the row of a group: the living one of a name in this namespace, or that of an id.

        None: no group has the id. A name that none has is a ValueError."""

    def current_group(self) -> tuple[bytes, bool]:
        """Return the group in which the caller runs (empty: in none), and whether that captures the tasks and
        actors that it starts."""


class ProcessEngine(Protocol):
    """This process, and what runs in it."""

    def identity(self) -> Identity:
        """Return what this process is in its session."""

    def running(self) -> RunningCall:
        """Return the call that the caller runs in."""

    def function_name(self) -> str | None:
        """Return the module and name of the function that the caller runs in; None in a driver."""

    def assigned(self) -> tuple[Mapping[str, float], tuple[str, ...]]:
        """Return what the caller holds: amounts of resources, ids of GPUs."""

    def is_cancelled(self) -> bool:
        """Tell whether the call that the caller runs in was cancelled.

        Raises:
            RuntimeError: the caller is a driver, or an async actor.
        """


class ToolEngine(Protocol):
    """Services for libraries and tools beyond calls and objects."""

    @property
    def name(self) -> str:
        """The engine as documents and errors call it: "skate", "in-process", "ray"."""

    def metrics_changed(self) -> None:
        """Have the numbers of ``engine.metrics.registry`` collected soon."""

    def serializers_changed(self) -> None:
        """Pickle by what ``skate.util.register_serializer`` has registered in this process by now."""

    def show_bar(self, state: Mapping[str, Any]) -> bool:
        """Have a progress bar of this process shown where those of all processes are.

        Args:
            state: see ``skate.experimental.tqdm_ray.BarManager.process_state_update``.

        Returns:
            False: this process is to draw it.
        """

    def followed_as(self) -> tuple[bytes, str] | None:
        """Return what makes this process's end observable: its id, and a folder that all processes of the
        machine share. None: no process is notified when it ends."""

    def on_process_gone(self, callback: Callable[[bytes], object]) -> str:
        """Have a function called with the id of each process that used this one and has ended.

        Returns:
            The folder of ``followed_as``; "" if no process can be followed.
        """

    def preload(self, modules: Sequence[str]) -> None:
        """Have the worker processes to come start with modules imported, where this is possible.

        Args:
            modules: names of modules that start no threads and open no files when they are imported. A
                process whose environment has another version of one imports that.
        """

    def set_trace(self, frame: FrameType) -> bool:
        """Stop at the next line of a frame; False: a plain pdb in this terminal will do."""

    def post_mortem(self, error: BaseException) -> bool:
        """Stop where an exception was raised; False: as with ``set_trace``."""

    def compiled_graphs(self) -> Any:
        """Return what compiled graphs connect processes with: the runtime itself, for ``skate.dag`` alone.

        Raises:
            NotImplementedError: this engine has no compiled graphs; ``execute`` runs the graph.
        """

    def graph_builder(self) -> GraphBuilder | None:
        """Return what makes compiled graphs where the cluster has its own; None: see ``compiled_graphs``."""


class GraphBuilder(Protocol):
    """Makes one compiled graph of a cluster's own. Its nodes are the cluster's."""

    def inputs(self, count: int) -> list[Any]:
        """Return the nodes of the values that each execution gets."""

    def call(self, actor: ActorInfo, method: str, num_returns: int, args: tuple[Any, ...]) -> list[Any]:
        """Return a node for each value that a method's call returns. Some arguments are nodes; refs are
        replaced by their values now."""

    def build(self, outputs: Sequence[Any], settings: GraphSettings) -> BuiltGraph:
        """Connect the actors. The outputs are different nodes."""


class GraphSettings(NamedTuple):
    """Settings of a compiled graph: see ``DAGNode.experimental_compile``."""

    submit_timeout: float
    buffer_size: int
    enable_asyncio: bool
    max_inflight: int
    max_buffered: int


class BuiltGraph(Protocol):
    """A compiled graph of a cluster's own."""

    def begin(self, values: Sequence[Any]) -> list[Any]:
        """Begin an execution; return a result for each output."""

    async def begin_async(self, values: Sequence[Any]) -> list[Any]:
        """Begin an execution, in a graph whose results are awaited."""

    def take(self, result: Any, timeout: float | None) -> Any:
        """Wait for a result, and return its value. ``timeout``: in seconds; None: no limit."""

    async def take_async(self, result: Any) -> Any:
        """Wait for a result of ``begin_async``, and return its value."""

    def end(self) -> None:
        """End the graph; its actors stay."""


class Engine(CallEngine, ObjectEngine, ClusterEngine, GroupEngine, ProcessEngine, ToolEngine, Protocol):
    """All that the public API needs."""
