"""The actors that the control store placed on this node, until their ends are reported. Decisions only.

Owner: the daemon's loop. An incarnation goes through::

       .--------- the worker refuses, or ends -------.
       v                                             |
    WAITING --a worker is granted--> STARTING -------+--the worker accepts--> RUNNING --it ends--> reported
       |                                |                                        |
       |                                |                                        '-- stop: it is asked to end,
       |                                |                                            or killed
       |                                '-- stop: remembered until the worker accepts (it is killed then),
       |                                    refuses or ends (that is reported)
       '-- stop, or it cannot be had: reported

A worker asked to become an actor may own objects that others need: it is not killed before it accepts.
An incarnation whose worker had not accepted had not begun: another worker is asked, which costs no restart,
unless its job is over or too many workers have ended. Each incarnation is reported ended, or failed, once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from skate._base.errors import ActorPlacementGroupRemoved, ActorUnschedulableError, RuntimeEnvSetupError
from skate._wire.control import ActorSpec

Actor = tuple[bytes, int]
"""An actor's id, and the number of the incarnation."""

#: So many workers may end before one accepts to be the actor; then that is the actor's end.
MAX_LOST_WORKERS = 5


class PlacementState(enum.Enum):
    """The states of an incarnation on this node; the module's text has the diagram."""

    WAITING = "waiting for a worker"
    STARTING = "a worker was asked to become it"
    RUNNING = "the worker accepted"


class Placement:
    """One incarnation that the control store placed here."""

    __slots__ = ("actor", "spec", "encoded_spec", "state", "stop_cause", "lost_workers")

    def __init__(self, actor: Actor, spec: ActorSpec, encoded_spec: bytes) -> None:
        self.actor = actor
        self.spec = spec
        #: As it came from the control store: the worker decodes it.
        self.encoded_spec = encoded_spec
        self.state = PlacementState.WAITING
        #: Of STARTING: why it is to end, if the control store said so meanwhile.
        self.stop_cause = ""
        #: Workers that ended before they accepted, though they had not announced that they leave.
        self.lost_workers = 0

    @property
    def job(self) -> bytes:
        """The job whose worker it gets: its creator's; a detached actor is the root of a job of its own."""
        return self.actor[0] if self.spec.job_config else self.spec.owner_job


# ---------------------------------------------------------------------- commands


class Demand(NamedTuple):
    """Demand a worker for it, as this shape."""

    shape: int
    placement: Placement


class Withdraw(NamedTuple):
    """End the demand of this shape; a lease that was granted stays."""

    shape: int


class Start(NamedTuple):
    """Tell the worker to become the actor."""

    worker: bytes
    placement: Placement
    gpus: list[str]


class NotAnActor(NamedTuple):
    """The worker refused: it owns objects of earlier tasks, and no actor is to get it."""

    worker: bytes


class Release(NamedTuple):
    """End the worker's lease; it goes on without."""

    worker: bytes


class AskToEnd(NamedTuple):
    """Ask the actor to end, and kill its worker if it does not in time."""

    worker: bytes
    cause: str


class Kill(NamedTuple):
    """Kill the actor's worker."""

    worker: bytes
    cause: str


class ReportEnded(NamedTuple):
    """Report to the control store that the incarnation is over."""

    actor: Actor
    cause: str
    #: It is not restarted.
    intended: bool = False
    #: Owner and number of the call that it began last.
    begun: tuple[bytes, int] = (b"", 0)


class ReportFailed(NamedTuple):
    """Report the actor dead as if its constructor had raised: callers get this error itself."""

    actor: Actor
    error: Exception


class TellOwner(NamedTuple):
    """Tell the process that made the actor why it waits, or is not made."""

    owner: bytes
    text: str


Command = (
    Demand
    | Withdraw
    | Start
    | NotAnActor
    | Release
    | AskToEnd
    | Kill
    | ReportEnded
    | ReportFailed
    | TellOwner
)


# ---------------------------------------------------------------------- decisions


class Placements:
    """All incarnations that are here, or on their way.

    Args:
        has_job: tells whether a job goes on.
    """

    def __init__(self, has_job: Callable[[bytes], bool]) -> None:
        self._has_job = has_job
        #: WAITING ones, by the shape of their demand.
        self._waiting: dict[int, Placement] = {}
        #: The others, by their worker.
        self._by_worker: dict[bytes, Placement] = {}
        self._last_shape = 0

    def hosted(self) -> list[Actor]:
        """Return every incarnation that is here, or on its way."""
        return [one.actor for one in (*self._waiting.values(), *self._by_worker.values())]

    def actor_of(self, shape: int) -> bytes | None:
        """Return the actor that waits for a demand of this shape."""
        placement = self._waiting.get(shape)
        return placement.actor[0] if placement is not None else None

    # ------------------------------------------------------------------ events from the control store

    def place(self, actor: Actor, spec: ActorSpec, encoded_spec: bytes) -> list[Command]:
        """The control store wants this incarnation here."""
        return self._demand(Placement(actor, spec, encoded_spec))

    def _demand(self, placement: Placement) -> list[Command]:
        placement.state = PlacementState.WAITING
        self._last_shape += 1
        self._waiting[self._last_shape] = placement
        return [Demand(self._last_shape, placement)]

    def stop(self, actor: Actor, cause: str, graceful: bool) -> list[Command]:
        """The control store wants this incarnation no more."""
        for shape, placement in self._waiting.items():
            if placement.actor == actor:
                del self._waiting[shape]
                return [Withdraw(shape), ReportEnded(actor, cause)]
        for worker, placement in self._by_worker.items():
            if placement.actor == actor:
                if placement.state is PlacementState.RUNNING:
                    return [AskToEnd(worker, cause) if graceful else Kill(worker, cause)]
                placement.stop_cause = cause
        return []

    # ------------------------------------------------------------------ events from the lease table

    def granted(self, shape: int, worker: bytes, gpus: list[str]) -> list[Command]:
        """There is a worker for a demand, and GPUs for it to use."""
        placement = self._waiting.pop(shape, None)
        if placement is None:  # it was stopped
            return [Release(worker)]
        placement.state = PlacementState.STARTING
        self._by_worker[worker] = placement
        # One lease is all that it wanted; it keeps that until its worker ends.
        return [Start(worker, placement, gpus), Withdraw(shape)]

    def refused(
        self, shape: int, reason: str, *, fatal: bool, environment: bool, removed: bool = False
    ) -> list[Command]:
        """Nothing here can satisfy a demand: not now, or (``fatal``) not at all.

        ``environment``: its runtime environment is what cannot be had. ``removed``: its placement group is
        gone.
        """
        placement = self._waiting.get(shape)
        if placement is None:
            return []
        text = f"actor {placement.spec.class_name}: {reason}"
        if environment:
            del self._waiting[shape]
            return [ReportFailed(placement.actor, RuntimeEnvSetupError(text))]
        if removed:
            del self._waiting[shape]
            return [ReportFailed(placement.actor, ActorPlacementGroupRemoved(text))]
        commands: list[Command] = [TellOwner(placement.spec.owner_id, text)]
        if fatal:
            del self._waiting[shape]
            commands.append(ReportEnded(placement.actor, f"it could not be placed: {reason}"))
        return commands

    def unschedulable(self, shape: int, reason: str) -> list[Command]:
        """This node may not serve a demand, whatever is free."""
        placement = self._waiting.pop(shape)
        text = f"actor {placement.spec.class_name}: {reason}"
        return [ReportFailed(placement.actor, ActorUnschedulableError(text))]

    # ------------------------------------------------------------------ events from workers

    def accepted(self, worker: bytes) -> list[Command]:
        """The worker is the actor from now on."""
        placement = self._by_worker.get(worker)
        if placement is None:
            return []
        placement.state = PlacementState.RUNNING
        return [Kill(worker, placement.stop_cause)] if placement.stop_cause else []

    def worker_refused(self, worker: bytes) -> list[Command]:
        """The worker does not become the actor, and goes on with what it has."""
        placement = self._by_worker.get(worker)
        if placement is None or placement.state is not PlacementState.STARTING:
            return []
        del self._by_worker[worker]
        if placement.stop_cause:
            then: list[Command] = [ReportEnded(placement.actor, placement.stop_cause)]
        else:
            then = self._demand(placement)
        return [NotAnActor(worker), *then, Release(worker)]

    def worker_ended(
        self, worker: bytes, cause: str, *, left: bool, intended: bool, begun: tuple[bytes, int]
    ) -> list[Command]:
        """The worker's process is dead.

        ``left``: it had announced that it leaves (``intended``: for good). ``begun``: see ``ReportEnded``.
        """
        placement = self._by_worker.pop(worker, None)
        if placement is None:
            return []
        if placement.state is PlacementState.STARTING and not placement.stop_cause:
            placement.lost_workers += not left
            if placement.lost_workers < MAX_LOST_WORKERS and self._has_job(placement.job):
                return self._demand(placement)
        return [ReportEnded(placement.actor, cause, left and intended, begun)]
