"""The replicas of one deployment: which to start, change, retire. Decisions only: no I/O, no clock.

::

    (start) --> STARTING --ready--> RUNNING --(retire), unhealthy--> RETIRING --> gone
                   |                   |
                   +-- failed          +-- died --> gone, replaced

*Updates surge*: replicas of the new version start beside those of the old one, and one of the old version
retires for each new one that is ready. At no time are fewer replicas ready than were before.

*A version that does not start changes nothing.* After enough failed starts its replicas end, the target is
the one before again, whose replicas were never stopped beyond those that had a successor, and ``failure``
has the reason.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

from skate.serve._answers import Answers
from skate.serve._controller import ranks
from skate.serve._controller.capacity import bounds
from skate.serve._targets import DeploymentTarget

#: The wait before a replica is started after others failed: it doubles from the first to the second
#: (seconds).
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 10.0
#: A version has failed for good after so many failed starts for each replica that it was to have.
_TRIES_PER_REPLICA = 3


class State(str, enum.Enum):
    """The states of a replica."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RETIRING = "STOPPING"


@dataclass
class Replica:
    """One replica."""

    id: str
    version: str
    state: State
    #: The number of the settings that it has.
    settings: int
    #: Where user code blocks its loop, or ""; and since when.
    blocked_in: str = ""
    blocked_at: float = 0.0
    #: How its requests ended.
    answers: Answers = field(default_factory=Answers)
    #: Its place among the replicas that live: see ``ranks.py``.
    rank: int = 0
    #: The resources that a starting replica waits for, as text; or "".
    waits_for: str = ""


@dataclass(frozen=True)
class Start:
    """Start a replica of the target's version."""

    replica: str


@dataclass(frozen=True)
class Change:
    """Give a running replica the target's settings, and its rank."""

    replica: str


@dataclass(frozen=True)
class Retire:
    """Take a running replica out of the table, let it finish, end it."""

    replica: str


@dataclass(frozen=True)
class End:
    """End a replica that serves nobody."""

    replica: str


Command = Start | Change | Retire | End


class Deployment:
    """The replicas of a deployment, and what they are to become.

    Args:
        target: the first target; None: no replicas are wanted.
        epoch: distinguishes this controller's replicas from those of its former lives.
    """

    def __init__(self, target: DeploymentTarget | None = None, epoch: str = "") -> None:
        self.target = target
        self._epoch = epoch
        #: The latest target of which all replicas were ready.
        self.good: DeploymentTarget | None = None
        #: Why the latest target was given up, or why its replicas do not start; the user's traceback is in
        #: it.
        self.failure = ""
        #: The target was given up for the one before.
        self.rolled_back = False
        #: Its replicas hold resources: updates start one at a time, if there is room for it.
        self.is_limited = False
        #: There is room for one replica more. Without, an old one ends first.
        self.can_surge = True
        #: An old one was ended to make room, which the next start takes.
        self._made_room = False
        self.replicas: dict[str, Replica] = {}
        #: Of the target's version since it is the target: why a replica was unhealthy; how many running ones
        #: died, and how the latest did.
        self.sickness = self.death = ""
        self.deaths = 0
        #: Of replicas that are gone, by version.
        self._answers: dict[str, Answers] = {}
        #: Numbers the replicas of this epoch.
        self._made = 0
        self._failed_starts = 0
        #: The latest failed start.
        self._failed_at = 0.0
        #: Numbers the targets of all times; the target's own, and that of the good one.
        self._targets = self._settings = self._good_settings = 0
        #: Direction of the change by ``scale`` that is under way, and of the last one: -1, 0 or 1.
        self.scaling = self.scaled = 0

    # ------------------------------------------------------------------ facts

    def count(self, state: State, version: str | None = None) -> int:
        """Return how many replicas are in a state, of one version or of all."""
        return sum(
            one.state is state and (version is None or one.version == version)
            for one in self.replicas.values()
        )

    def answers(self, version: str) -> Answers:
        """Return how all requests of a version ended."""
        found = self._answers.get(version, Answers())
        for one in self.replicas.values():
            if one.version == version:
                found = found + one.answers
        return found

    @property
    def has_failed(self) -> bool:
        """Whether the target cannot be brought about, and there is none to go back to."""
        return bool(self.failure) and not self.rolled_back and self.target is not None and self._is_given_up()

    @property
    def is_settled(self) -> bool:
        """Whether all is as the target wants it."""
        target = self.target
        if target is None:
            return not self.replicas
        # The load may ask for more than the node may have: an update is complete all the same.
        scales = target.settings.autoscaling is not None
        return self._is_like(target, target.settings.num_replicas - (self.beyond if scales else 0))

    @property
    def beyond(self) -> int:
        """How many of the wanted replicas wait for another node: there is one, and it may have no more."""
        settings = self.target.settings if self.target is not None else None
        if settings is None or settings.max_replicas_per_node is None:
            return 0
        return max(0, settings.num_replicas - settings.max_replicas_per_node)

    # ------------------------------------------------------------------ events

    def retarget(self, target: DeploymentTarget | None) -> None:
        """Another target is wanted; None: none at all."""
        old = self.target
        if target is not None:
            target = _resized(target, (old or target).settings.num_replicas)
        if target is not None and old is not None and target == old and not self._is_given_up():
            self.failure, self.rolled_back = "", False
            return
        if target is None or old is None or target.version != old.version or self._is_given_up():
            self._failed_starts = 0
        if old is None:
            self.good = None
        if target is None or old is None or target.version != old.version:
            self.sickness, self.deaths = "", 0
            kept = {one.version for one in (target, old) if one is not None}
            self._answers = {version: one for version, one in self._answers.items() if version in kept}
        self.target = target
        self._targets += 1
        self._settings = self._targets
        self.failure, self.rolled_back = "", False
        self.scaling = self.scaled = 0

    def scale(self, number: int) -> None:
        """The load asks for another number of replicas."""
        old = self.target
        if old is None or _resized(old, number) == old:
            return
        if self.is_settled or self.scaling or self.good is old:  # else it is a part of an update
            self.scaling = 1 if number > old.settings.num_replicas else -1
        self.target = _resized(old, number)
        self._targets += 1
        self._settings = self._targets
        if self.good is old:
            self.good, self._good_settings = self.target, self._settings

    def adopted(self, replica: str, version: str, state: State, rank: int = 0) -> None:
        """A replica was found that runs since before the controller's restart. Its settings are given
        again, and its rank, which another one has if the restart overtook a change of ranks."""
        taken = self._ranks()
        rank = ranks.lowest_free(taken) if rank in taken else rank
        self.replicas[replica] = Replica(replica, version, state, -1, rank=rank)

    def ready(self, replica: str) -> None:
        """A replica can serve."""
        one = self.replicas.get(replica)
        if one is not None and one.state is State.STARTING:
            one.state = State.RUNNING

    def start_failed(self, replica: str, reason: str, now: float) -> None:
        """A replica could not start, or failed before its version was established."""
        self.replicas.pop(replica, None)
        self._start_failed(reason, now)

    def died(self, replica: str, reason: str, now: float) -> None:
        """A replica has ended without an order."""
        one = self._remove(replica)
        if one is None or one.state is State.RETIRING:
            return
        if self.target is not None and one.version == self.target.version and one.state is State.RUNNING:
            self.deaths, self.death = self.deaths + 1, reason
        if one.state is State.STARTING or self._is_new(one):
            self._start_failed(reason, now)

    def blocked(self, replica: str, place: str, now: float) -> None:
        """User code blocks the loop of a replica; with "" it does so no longer."""
        one = self.replicas.get(replica)
        if one is not None:
            one.blocked_in, one.blocked_at = place, now

    def waits(self, replica: str, reason: str) -> None:
        """A replica that starts waits for resources; with "" it has them."""
        one = self.replicas.get(replica)
        if one is not None:
            one.waits_for = reason

    def unhealthy(self, replica: str, reason: str, now: float) -> list[Command]:
        """A replica's health check failed too often: it gets no more requests, and is replaced."""
        one = self.replicas.get(replica)
        if one is None or one.state is State.RETIRING:
            return []
        if self.target is not None and one.version == self.target.version:
            self.sickness = reason
        if self._is_new(one):
            self._start_failed(reason, now)
        return self._end(one)

    def counted(self, replica: str, answers: Answers) -> None:
        """A replica says how its requests ended."""
        one = self.replicas.get(replica)
        if one is not None:
            one.answers = answers

    def retired(self, replica: str) -> None:
        """A replica that was retired has ended."""
        self._remove(replica)

    # ------------------------------------------------------------------ rules

    def decide(self, now: float) -> list[Command]:
        """Return what is to be done now; ``wait_s`` says when to ask again."""
        commands: list[Command] = []
        if self.target is None:
            for one in self.replicas.values():
                commands += self._end(one)
            return commands
        if self._is_given_up() and self.failure:
            if self.good is not None and self.good.version != self.target.version:
                self.target = self.good = _resized(self.good, self.target.settings.num_replicas)
                self._settings = self._good_settings
                self._failed_starts, self.rolled_back = 0, True
            else:
                return [
                    c for one in self.replicas.values() if one.state is State.STARTING for c in self._end(one)
                ]
        target = self.target
        wanted = target.settings.num_replicas - self.beyond
        current = [one for one in self.replicas.values() if one.version == target.version]
        old = [one for one in self.replicas.values() if one.version != target.version]
        for one in old:
            if one.state is State.STARTING:
                commands += self._end(one)
        starting = [one for one in current if one.state is State.STARTING]
        running = [one for one in current if one.state is State.RUNNING]
        old_running = [one for one in old if one.state is State.RUNNING]
        surplus = len(running) + len(old_running) - wanted
        for one in [*old_running, *reversed(running)][: max(0, surplus)]:
            commands += self._end(one)
            old_running = [other for other in old_running if other is not one]
            running = [other for other in running if other is not one]
        for one in running:
            if one.settings != self._settings:
                one.settings = self._settings
                commands.append(Change(one.id))
        for one in list(reversed(starting))[: max(0, len(running) + len(starting) - wanted)]:
            commands += self._end(one)
            starting.remove(one)
        missing = wanted - len(running) - len(starting)
        if old_running:
            room = wanted + self._surge(target) - len(running) - len(starting) - len(old_running)
            missing = min(missing, room)
            if missing > 0 and (self.is_limited or missing > self._places):
                missing = 0
                if not starting and not self.count(State.RETIRING):
                    if (self.can_surge and self._places > 0) or self._made_room:
                        missing = 1
                    else:
                        self._made_room = True
                        commands += self._end(old_running[0])
        if missing > 0 and self.wait_s(now) <= 0:
            for _ in range(int(min(missing, self._places))):
                self._made_room = False
                self._made += 1
                name = f"{target.name}-{self._epoch}{self._made}"
                rank = ranks.lowest_free(self._ranks())
                self.replicas[name] = Replica(name, target.version, State.STARTING, self._settings, rank=rank)
                commands.append(Start(name))
        if self._is_like(target, wanted):
            if not self.rolled_back:
                self.failure = ""
            if self.scaling and self.is_settled:
                self.scaling, self.scaled = 0, self.scaling
            if self.replicas:  # without any, nothing says that the version starts
                self.good, self._good_settings = target, self._settings
            self._failed_starts = 0
            for name, rank in ranks.moved({one.id: one.rank for one in self.replicas.values()}).items():
                self.replicas[name].rank = rank
                if Change(name) not in commands:
                    commands.append(Change(name))
        return commands

    def wait_s(self, now: float) -> float:
        """Return how long to wait until a replica may be started again, after failed starts."""
        if not self._failed_starts:
            return 0.0
        delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** (self._failed_starts - 1))
        return max(0.0, self._failed_at + delay - now)

    @property
    def _places(self) -> float:
        """How many more replicas the node may have. Those that end still run there."""
        most = self.target.settings.max_replicas_per_node if self.target is not None else None
        return math.inf if most is None else max(0, most - len(self.replicas))

    def _is_like(self, target: DeploymentTarget, number: int) -> bool:
        """Tell whether there are so many replicas, and all as a target wants them."""
        return len(self.replicas) == number and all(
            one.state is State.RUNNING and one.version == target.version and one.settings == self._settings
            for one in self.replicas.values()
        )

    def _ranks(self) -> set[int]:
        return {one.rank for one in self.replicas.values()}

    def _remove(self, replica: str) -> Replica | None:
        one = self.replicas.pop(replica, None)
        if one is not None:
            self._answers[one.version] = self._answers.get(one.version, Answers()) + one.answers
        return one

    def _start_failed(self, reason: str, now: float) -> None:
        self._failed_starts += 1
        self._failed_at = now
        self.failure = reason

    def _is_new(self, one: Replica) -> bool:
        """Tell whether a replica is of a version of which never all replicas were ready."""
        return self.target is not None and one.version == self.target.version and self.good is not self.target

    def _end(self, one: Replica) -> list[Command]:
        if one.state is State.RETIRING:
            return []
        was, one.state = one.state, State.RETIRING
        return [Retire(one.id) if was is State.RUNNING else End(one.id)]

    def _is_given_up(self) -> bool:
        target = self.target
        if target is None or (self.good is not None and self.good.version == target.version):
            return False  # it did start once: try for ever
        limit = min(
            target.settings.max_constructor_retry_count, _TRIES_PER_REPLICA * target.settings.num_replicas
        )
        return self._failed_starts >= max(1, limit)

    def _surge(self, target: DeploymentTarget) -> int:
        """Return how many replicas beyond the wanted number an update may have."""
        settings = target.settings
        share = settings.max_surge_percent / 100 or settings.rolling_update_percentage
        return max(1, math.ceil(settings.num_replicas * share))


def _resized(target: DeploymentTarget, number: int) -> DeploymentTarget:
    """Return a target with a number of replicas within its bounds, if it is one that scales automatically."""
    config = target.settings.autoscaling
    if config is None:
        return target
    least, most = bounds(config, target.capacity)
    number = min(max(number, least), most)
    return replace(target, settings=replace(target.settings, num_replicas=number))
