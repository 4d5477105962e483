"""Defines the messages between the control store and daemons, drivers and workers."""

from __future__ import annotations

from msgspec import Struct

from skate._wire.specs import Condition


class ActorSpec(Struct, frozen=True):
    """Holds all that is needed to start an actor, any number of times; the control store keeps it."""

    class_name: str
    class_blob: bytes
    args_kind: int
    args: bytes
    #: Arguments that are refs: position or keyword, and the ref.
    dependencies: list[tuple[int | str, bytes, str]]
    #: The resources that the actor needs to be placed, and those that it holds while it runs (a default
    #: actor: 1 CPU, then none).
    placement: dict[str, int]
    running: dict[str, int]
    max_restarts: int
    max_task_retries: int
    #: The most calls at a time, the same for each concurrency group, and whether any method is a coroutine.
    max_concurrency: int
    concurrency_groups: dict[str, int]
    is_async: bool
    name: str
    namespace: str
    #: The worker id of the driver whose job it belongs to.
    owner_job: bytes
    owner_id: bytes
    owner_address: str
    #: The object that stands for all handles: when its last reference is gone, the actor ends.
    handle: bytes
    #: Method name to its options, for handles made from the name alone.
    methods: dict[str, dict[str, int | str]]
    #: Of a detached actor only: the job of which it is the root, under its own id. Tasks and actors that it
    #: starts belong to that job, and do not end with the driver that created the actor.
    job_config: bytes = b""
    max_pending_calls: int = -1
    out_of_order: bool = False
    #: The environment of its process, as JSON; empty: only the job's variables and paths.
    environment: bytes = b""
    #: A packed ``specs.Requirement``: which nodes may run it; empty: any.
    requirement: bytes = b""
    #: Where in the code the actor was created, and by which task; empty: by a driver's own program.
    call_site: str = ""
    parent: bytes = b""


class ActorStarted(Struct, array_like=True, frozen=True, tag=101):
    """Daemon to control store: the actor runs at this address, or its constructor raised ``error``."""

    actor_id: bytes
    incarnation: int
    worker_id: bytes
    address: str
    error: bytes
    #: The text of its class's own ``__repr__``; empty: the class has none.
    repr_name: str = ""


class ActorEnded(Struct, array_like=True, frozen=True, tag=102):
    """Daemon to control store: the process of this incarnation ended (or never could start)."""

    actor_id: bytes
    incarnation: int
    cause: str
    intended: bool
    begun_owner: bytes
    begun_seq: int


class RegisterNode(Struct, array_like=True, frozen=True, tag=90):
    """Daemon to control store, at each connect: its identity, and all news that a restarted control store may
    have missed."""

    node_id: bytes
    address: str
    hostname: str
    pid: int
    resources: dict[str, int]
    protocol: int
    labels: dict[str, str] = {}
    #: Its reports about actors: each one's start, and the newest ends. The control store handles them as if
    #: they came again.
    reports: list[ActorStarted | ActorEnded] = []
    #: The incarnations of actors that it runs, or that it got the order to place.
    hosted: list[tuple[bytes, int]] = []
    #: Detached actors that are the roots of jobs here.
    roots: list[bytes] = []
    #: Processes of this node that ended lately.
    gone: list[bytes] = []
    #: The placement groups that it has or queues: id, attempt, and whether their bundles are reserved.
    groups: list[tuple[bytes, int, bool]] = []


class NodeUpdate(Struct, array_like=True, frozen=True, tag=91):
    """Daemon to control store: the resources that are free now. Absolute; the newest message counts."""

    available: dict[str, int]


class RegisterJob(Struct, array_like=True, frozen=True, tag=92):
    """Driver (or worker, with its job's id) to control store, at each connect. A repeat of a driver's first
    one gets the same job."""

    request: int
    worker_id: bytes
    job_id: bytes  # empty: a new job
    namespace: str
    entrypoint: str
    protocol: int
    #: Of a new job: further facts as JSON (see ``JobConfig.metadata``), and its process.
    facts: bytes = b""


class RegisterObserver(Struct, array_like=True, frozen=True, tag=111):
    """Command line to control store, first frame: it asks for the state, and may stop the session."""

    pid: int
    protocol: int


class Answer(Struct, array_like=True, frozen=True, tag=93):
    """Control store to the asking process: the result, or an error's type and text."""

    request: int
    data: bytes
    error_type: str = ""
    error: str = ""


class CreateActor(Struct, array_like=True, frozen=True, tag=94):
    """Owner to control store: place and start this actor. Answered when the actor is recorded (with the id of
    the actor that has the name already, if ``get_if_exists``)."""

    request: int
    actor_id: bytes
    spec: bytes
    get_if_exists: bool


class WatchActor(Struct, array_like=True, frozen=True, tag=95):
    """Anyone to control store: send me the state of this actor, now and at each change."""

    actor_id: bytes


class ActorUpdate(Struct, array_like=True, frozen=True, tag=96):
    """Control store to watchers. Absolute: state, incarnation, address; for RESTARTING and DEAD
    the cause, and the task that the dead incarnation had begun."""

    actor_id: bytes
    state: str
    incarnation: int
    address: str
    cause: str
    #: Pickled exception of the constructor.
    error: bytes
    begun_owner: bytes
    begun_seq: int


class KillActor(Struct, array_like=True, frozen=True, tag=97):
    """Anyone to control store: end the actor's process."""

    request: int
    actor_id: bytes
    no_restart: bool
    reason: str


class FindActor(Struct, array_like=True, frozen=True, tag=98):
    """Anyone to control store: the living actor of this name. Answered with id and spec."""

    request: int
    name: str
    namespace: str


class FoundActor(Struct, frozen=True):
    """Body of the answer to FindActor and CreateActor."""

    actor_id: bytes
    spec: ActorSpec


class ListNodes(Struct, array_like=True, frozen=True, tag=99):
    """Anyone to control store: the nodes, their resources, what is free."""

    request: int


class NodeInfo(Struct, frozen=True):
    """One node, in the answer to ListNodes."""

    node_id: bytes
    alive: bool
    address: str
    hostname: str
    pid: int
    resources: dict[str, int]
    available: dict[str, int]
    labels: dict[str, str] = {}
    started: float = 0.0
    ip: str = "127.0.0.1"


class PlaceActor(Struct, array_like=True, frozen=True, tag=100):
    """Control store to daemon: lease a worker, start the actor on it, report."""

    actor_id: bytes
    incarnation: int
    spec: bytes


class StopActor(Struct, array_like=True, frozen=True, tag=103):
    """Control store to daemon: end the process of this incarnation, or stop trying to place it."""

    actor_id: bytes
    incarnation: int
    cause: str
    #: The actor may clean up first: the daemon kills it only if that takes long.
    graceful: bool = False


class ReleaseActor(Struct, array_like=True, frozen=True, tag=104):
    """Owner to control store: no handle refers to this actor any more. Answered when that is recorded."""

    request: int
    actor_id: bytes


class ListNames(Struct, array_like=True, frozen=True, tag=105):
    """Anyone to control store: the names of living actors, in one namespace or (None) in all.
    Answered with pairs of namespace and name."""

    request: int
    namespace: str | None


class ForgetJob(Struct, array_like=True, frozen=True, tag=106):
    """Control store to daemons: this detached actor is dead for good; end the workers of its job."""

    job: bytes


class ListActors(Struct, array_like=True, frozen=True, tag=107):
    """Anyone to control store: list all actors, living and remembered. Answered with plain rows."""

    request: int


class ListJobs(Struct, array_like=True, frozen=True, tag=108):
    """Anyone to control store: list all jobs of this cluster. Answered with plain rows."""

    request: int


class ListEvents(Struct, array_like=True, frozen=True, tag=109):
    """Anyone to control store: list recent events of actors, jobs and nodes. Answered with plain rows."""

    request: int


class KeyValue(Struct, array_like=True, frozen=True, tag=110):
    """Anyone to control store: read or change the key-value table. Safe to repeat, except that the answer to
    a change describes the state before it. Answered with the packed result; changes are answered when they
    are recorded."""

    request: int
    #: "get", "exists", "put", "delete", "delete_prefix" or "list".
    operation: str
    namespace: bytes
    key: bytes
    value: bytes = b""
    #: Of "put": replace what is there.
    overwrite: bool = True


class GroupSpec(Struct, frozen=True):
    """Describes a placement group; the control store keeps it."""

    name: str
    namespace: str
    #: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD.
    strategy: str
    #: The resources of each bundle, in fixed point.
    bundles: list[dict[str, int]]
    #: Of each bundle: conditions on the labels of its node.
    selectors: list[list[Condition]]
    #: The job with which it ends, unless it is detached; and that job's id, for people.
    owner_job: bytes
    job_id: bytes
    detached: bool
    #: The node to try first, in hex; empty: any.
    target: str = ""


class CreateGroup(Struct, array_like=True, frozen=True, tag=112):
    """Anyone to control store: record and place this placement group. Answered when that is done, with the
    packed reason why no node can have it; empty: one can."""

    request: int
    group_id: bytes
    spec: bytes


class RemoveGroup(Struct, array_like=True, frozen=True, tag=113):
    """Anyone to control store: give this placement group up; what runs in it ends. Answered when that is
    recorded."""

    request: int
    group_id: bytes
    reason: str


class ListGroups(Struct, array_like=True, frozen=True, tag=114):
    """Anyone to control store: list all placement groups, living and remembered. Answered with plain rows."""

    request: int


class ReserveBundles(Struct, array_like=True, frozen=True, tag=115):
    """Control store to daemon: reserve these bundles (by index) of a placement group together, as soon as
    they fit. May be repeated; a higher attempt replaces what the node holds for a lower one."""

    group_id: bytes
    attempt: int
    bundles: dict[int, dict[str, int]]


class BundlesReserved(Struct, array_like=True, frozen=True, tag=116):
    """Daemon to control store: the bundles of this attempt are reserved. May be repeated."""

    group_id: bytes
    attempt: int


class ReturnBundles(Struct, array_like=True, frozen=True, tag=117):
    """Control store to daemon: end what runs in this placement group, and give up its bundles."""

    group_id: bytes
    cause: str
    #: It is gone for good: tasks that want to run in it fail. Else they wait until it is placed again.
    is_removed: bool


class AskForGroup(Struct, array_like=True, frozen=True, tag=118):
    """Daemon to control store: a demand names this placement group, which I do not know. Answered with
    ReserveBundles or ReturnBundles, if it is this node's business."""

    group_id: bytes


class FindGroup(Struct, array_like=True, frozen=True, tag=119):
    """Anyone to control store: the living placement group of this name, or the one of this id. Answered with
    its plain row; with None if the id is not known."""

    request: int
    name: str
    namespace: str
    #: Empty: the name counts.
    group_id: bytes = b""
