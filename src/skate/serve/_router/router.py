"""The requests of one process to one deployment: which goes where, and when. No I/O, no clock.

Requests stand in one queue in the order of their arrival and are bound late: the oldest takes the first
credit that comes free, of this process's own replica if it has one, else of the replica that has the fewest
requests from here. Nothing that was sent is ever sent again by this module; ``Lost`` names what a dead
replica had, and the caller decides whether that may be repeated.

Some requests take credits of some replicas only, and let others pass meanwhile (``lines.py``):

- one of a session waits for that session's replica (``sessions.py``), until its caller says ``let_go``;
- one for a model waits for the replicas that have the model (``models.py``), which become more if many wait
  for it while other credits are idle;
- one that a custom request router chooses for waits for that choice, and then for its replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from skate.serve._router.commands import Command, Expire, Lost, Refuse, Report, Send
from skate.serve._router.credits import Credits
from skate.serve._router.lines import Key, Line, Lines, Ranks
from skate.serve._router.models import Held, Models
from skate.serve._router.sessions import home_of

__all__ = ["Command", "Expire", "Lost", "Refuse", "Report", "Router", "Send"]

#: So many requests may wait for the replica of their session: a bound of the time to find one for a credit.
_MOST_PATIENT = 256


class Router:
    """A queue and the credits of one deployment's replicas.

    Args:
        max_queued: how many requests may wait here; below 0: any number.
        own: the replica in this process, or "".
    """

    def __init__(self, max_queued: int = -1, own: str = "") -> None:
        self.max_queued = max_queued
        self.own = own
        #: Hook of its owner: tells whether a request with this deadline should give its turn to one of so
        #: many others, for which there is no credit.
        self.is_hopeless: Callable[[float, int], bool] = lambda deadline, others: False
        #: Replicas that get a request only if no other has a credit.
        self.avoided: frozenset[str] = frozenset()
        self._replicas: dict[str, Credits] = {}
        self._lines = Lines()
        self._models = Models()
        #: Where each sent request is.
        self._at: dict[Key, str] = {}

    # ------------------------------------------------------------------ facts

    @property
    def queued(self) -> int:
        """How many requests wait here."""
        return len(self._lines.queue)

    @property
    def ongoing(self) -> int:
        """How many requests were sent and have not ended."""
        return len(self._at)

    @property
    def credits(self) -> int:
        """How many requests could be sent now."""
        return sum(one.held for one in self._replicas.values() if not one.retired)

    @property
    def next_deadline(self) -> float:
        """The earliest deadline of the requests that wait; 0: none has one."""
        return self._lines.next_deadline

    def replicas(self) -> list[str]:
        """Return the replicas that requests may go to."""
        return [name for name, one in self._replicas.items() if not one.retired]

    def knows(self, name: str) -> bool:
        """Tell whether a replica may get requests, or still has some."""
        return name in self._replicas

    def at(self, key: Key) -> str | None:
        """Return the replica that a request was sent to; None: it waits, or has ended."""
        return self._at.get(key)

    def home_of(self, session: str) -> str | None:
        """Return the replica that requests of a session go to; None: there are no replicas."""
        names = self.replicas()
        return home_of(session, [name for name in names if name not in self.avoided] or names)

    def is_patient(self, key: Key) -> bool:
        """Tell whether a request waits for the replica of its session."""
        return self.is_waiting(key) and bool(self._lines.queue[key].line.session)

    def is_waiting(self, key: Key) -> bool:
        """Tell whether a request waits here."""
        return key in self._lines.queue

    def load(self, name: str) -> tuple[int, bool]:
        """Return how many requests from here a replica has, and whether it may have a free slot: a credit of
        it is here, or it was not heard of yet."""
        one = self._replicas.get(name)
        if one is None or one.retired:
            return 0, False
        return len(one.sent), one.is_free or not one.received

    def has_credit(self, name: str) -> bool:
        """Tell whether a request can be sent to a replica now."""
        return name in self._replicas and self._replicas[name].is_free

    @property
    def is_informed(self) -> bool:
        """Whether it knows which models replicas have."""
        return self._models.is_informed

    def ahead_of(self, key: Key) -> int | None:
        """Return how many requests wait before one; None: it does not wait here. Any thread."""
        waiting = list(self._lines.queue)
        return waiting.index(key) if key in waiting else None

    # ------------------------------------------------------------------ events

    def table_changed(self, table: Mapping[str, int]) -> list[Command]:
        """The deployment has these replicas now: their slots by their ids."""
        commands: list[Command] = []
        for name, slots in table.items():
            known = self._replicas.get(name)
            if known is None:
                self._replicas[name] = Credits(slots)
            else:
                known.slots, known.retired = slots, False
        for name, one in list(self._replicas.items()):
            if name not in table and not one.retired:
                one.retired, one.owed = True, 0
                if one.held:
                    one.held = 0
                    commands.append(self._report(name, one, 0))
                self._forget_if_done(name, one)
        self._find_homes()
        return commands + self._settle()

    def submitted(
        self, key: Key, deadline: float = 0.0, session: str = "", model: str = "", is_asked: bool = False
    ) -> list[Command]:
        """A request came.

        Args:
            key: identifies it here.
            deadline: when it is of no use any more, on the caller's clock; 0: never.
            session: whose replica it prefers; "": it has none.
            model: that it is for; "": none. Its session does not matter then.
            is_asked: it waits until ``chosen`` says where it may go. Session and model do not matter then.
        """
        queued = len(self._lines.queue)
        is_hopeless = deadline and self.is_hopeless(deadline, 0)
        if not (queued or session or model or is_asked or is_hopeless) and (free := self._free()):
            return [self._go(key, self._choose(free))]  # nothing waits, so nothing else is to be decided
        is_full = 0 <= self.max_queued <= queued
        if is_full and not self.credits:
            return [Refuse(key, queued)]
        line = self._lines.any
        if is_asked:
            line = self._lines.undecided
        elif model:
            line = self._line_of(key, model)
        elif session and not is_full and self._lines.patient < _MOST_PATIENT:
            line = Line(self._home_ranks(session), session)
        self._lines.join(key, line, deadline)
        return self._settle()

    def asked(self, key: Key) -> None:
        """A request that waits is to wait until ``chosen`` says where it may go."""
        self._lines.move(key, self._lines.undecided)

    def chosen(self, key: Key, ranks: Ranks | None) -> list[Command]:
        """A custom request router has chosen for a request that waits; it may choose again.

        Args:
            key: identifies it.
            ranks: replicas, one of which it goes to; None: any.
        """
        if self.is_waiting(key):
            self._lines.move(key, Line(ranks) if ranks is not None else self._lines.loose)
            return self._settle()
        return []

    def bounded(self) -> list[Command]:
        """The first table has come, and with it the bound of the queue: refuse what came too late to have
        been let in, had it been known. The replicas' slots count as free, for no credit can be there yet."""
        if self.max_queued < 0:
            return []
        room = self.max_queued + sum(one.slots for one in self._replicas.values()) - self.ongoing
        refused = [key for key in list(self._lines.queue)[max(0, room) :] if self.withdrawn(key)]
        return [Refuse(key, self.queued) for key in refused]

    def let_go(self, key: Key) -> list[Command]:
        """A request has waited long enough for the replica of its session: it takes any credit."""
        if not self.is_patient(key):
            return []
        self._lines.move(key, self._lines.loose)
        return self._settle()

    def pressed(self, key: Key) -> list[Command]:
        """A request has waited long for the replicas of its model: the model gets another one as soon as a
        credit is idle."""
        if not self.is_waiting(key):
            return []
        line = self._lines.queue[key].line
        line.pressed = line.keys[key]
        return self._settle()

    @property
    def is_hungry(self) -> bool:
        """Whether a model needs another replica."""
        return any(self._is_hungry(line) for line in self._lines.models.values())

    def look(self) -> list[Command]:
        """Give models that need another replica the credits that were idle since the last look: no other
        router has wanted them back."""
        idle = [name for name, one in self._replicas.items() if one.is_idle and name not in self.avoided]
        for one in self._replicas.values():
            one.is_idle = True
        return self._spread(idle)

    def informed(self, held: Mapping[str, Held]) -> list[Command]:
        """Replicas have these models now. Before the first such report no request for a model is sent."""
        self._models.informed(held)
        self._find_homes()
        return self._settle()

    def resubmitted(self, key: Key, deadline: float = 0.0) -> list[Command]:
        """A request that was sent and lost goes again, before all others."""
        self._lines.come_first(key, deadline)
        return self._settle()

    def withdrawn(self, key: Key) -> bool:
        """A request was cancelled. True: it waited here and is forgotten; False: it was sent or has ended."""
        if not self.is_waiting(key):
            return False
        self._lines.leave(key)
        self._models.ended(key)
        return True

    def ended(self, key: Key, keeps: bool) -> list[Command]:
        """A request that was sent has ended; ``keeps``: its result or error came, and with it the credit."""
        one = self._left(key, keeps)
        if one is None:
            return []
        one.received += keeps
        if keeps and not one.retired and one.listening and not one.owed and not self._lines.queue:
            return []  # there is nothing to decide
        return self._settle()

    def unsent(self, key: Key) -> list[Command]:
        """A request that was to be sent was cancelled in that moment: its credit stays."""
        one = self._left(key, True)
        if one is not None:
            one.listening = False  # the latest report says that the credit is used
        return self._settle()

    def _left(self, key: Key, keeps: bool) -> Credits | None:
        """A request is not at its replica any more; with ``keeps`` its credit is here again."""
        name = self._at.pop(key, None)
        if name is None:
            return None
        self._models.ended(key)
        one = self._replicas[name]
        one.sent.discard(key)
        one.held += keeps and not one.retired
        self._forget_if_done(name, one)
        return one

    @property
    def is_at_ease(self) -> bool:
        """Whether no request waits, and no lender for credits that it wants back."""
        return not self._lines.queue and not any(one.owed for one in self._replicas.values())

    def lend(self, key: Key) -> str | None:
        """Set a credit aside for requests that others send, one after the other; return its replica. None:
        none is free."""
        free = [name for name in self._free() if name not in self.avoided]
        return self._go(key, self._choose(free)).replica if free else None

    def used(self, key: Key, count: int) -> None:
        """So many requests have ended that used a credit that was set aside: each result brought it again."""
        name = self._at.get(key)
        if name is not None:
            self._replicas[name].received += count

    def repaid(self, keys: Iterable[Key]) -> list[Command]:
        """Credits are here again that were set aside."""
        for key in keys:
            self._left(key, True)
        return self._settle()

    def answered(self, name: str, number: int, granted: int, recalled: int) -> list[Command]:
        """A replica's lender answered a report.

        Args:
            name: the replica.
            number: of the report.
            granted: credits that came.
            recalled: credits that it wants back.
        """
        one = self._replicas.get(name)
        if one is None:
            return []
        one.received += granted
        if number == one.number:
            one.listening = False
            one.owed = recalled
        if one.retired:
            return [self._report(name, one, 0)] if granted else []
        one.held += granted
        commands = self._settle()
        return commands + self._spread([name]) if granted else commands

    def replica_gone(self, name: str) -> list[Command]:
        """A replica has ended, by whatever cause."""
        one = self._replicas.pop(name, None)
        if one is None:
            return []
        lost: list[Command] = [Lost(key, name) for key in sorted(one.sent, key=str)]
        for key in one.sent:
            del self._at[key]
            self._models.ended(key)
        self._find_homes()
        return lost + self._settle()

    @property
    def is_greedy(self) -> bool:
        """Whether it has, or would get, credits that it does not need: no request waits."""
        return not self._lines.queue and any(one.is_greedy for one in self._replicas.values())

    def relaxed(self, is_resting: bool) -> list[Command]:
        """Some time has passed. If no request waits any more, say so to lenders that believe otherwise: they
        would keep credits for this router that others need.

        Args:
            is_resting: nothing was sent meanwhile: give back what one next request does not need.
        """
        commands: list[Command] = []
        for name, one in self._replicas.items():
            if self._lines.queue or one.retired:
                continue
            gives_back = is_resting and one.held > 1
            if gives_back:
                one.held = 1
            if gives_back or one.is_believed:
                commands.append(self._report(name, one, 0))
        return commands

    def expired(self, now: float) -> list[Command]:
        """Drop the requests that wait and whose deadline is over."""
        late = [key for key, one in self._lines.queue.items() if 0 < one.deadline <= now]
        for key in late:
            self.withdrawn(key)
        return [Expire(key) for key in late]

    # ------------------------------------------------------------------ rules

    def _settle(self) -> list[Command]:
        commands: list[Command] = []
        while self._lines.queue:
            found = self._next()
            if found is None:
                break
            line, name = found
            key = next(iter(line.keys))
            deadline = self._lines.queue[key].deadline
            if deadline and self.is_hopeless(deadline, max(0, self.queued - self.credits)):
                self.withdrawn(key)
                commands.append(Expire(key))
                continue
            self._lines.leave(key)
            commands.append(self._go(key, name))
            self._models.sent(key)
        everywhere, ranked = self._lines.wants()
        spare = -1 if self.is_hungry else 0
        for name, one in self._replicas.items():
            if one.retired:
                continue
            wanted = everywhere + ranked.get(name, 0) or spare
            if one.owed and one.held:
                paid = min(one.owed, one.held)
                one.held -= paid
                one.owed -= paid
                if not one.owed:
                    commands.append(self._report(name, one, wanted))
            elif one.owed and not one.sent:
                one.owed = 0  # it has none: a request's error has not brought it back
                commands.append(self._report(name, one, wanted))
            elif not one.owed and one.is_to_report(wanted):
                commands.append(self._report(name, one, wanted))
        return commands

    def _go(self, key: Key, name: str) -> Send:
        one = self._replicas[name]
        one.held -= 1
        one.sent.add(key)
        self._at[key] = name
        return Send(key, name)

    def _next(self) -> tuple[Line, str] | None:
        """Return the line whose oldest request goes now, and where it goes; None: none can go."""
        free = self._free()
        if not free:
            return None
        if not self._lines.others:
            return self._lines.any, self._choose(free)
        for line in self._lines.heads():
            if line.ranks is None:
                return line, self._choose(free)
            name = self._best(line, free)
            if name is not None:
                return line, name
        return None

    def _best(self, line: Line, free: list[str]) -> str | None:
        """Return the best of some replicas for a line: one of its first group that has any."""
        for rank in line.ranks or ():
            if found := [name for name in rank if name in free]:
                return self._least_used(found)
        return None

    def _free(self) -> list[str]:
        """Return the replicas of which there is a credit."""
        return [name for name, one in self._replicas.items() if one.is_free]

    def _choose(self, free: list[str]) -> str:
        """Return one of these replicas: the own one, if it is among them."""
        return self.own if self.own in free else self._least_used(sorted(free))

    def _least_used(self, names: list[str]) -> str:
        """Return the replica that has the fewest requests from here, of equals the first; those to be avoided
        come last."""
        return min(names, key=lambda name: (name in self.avoided, len(self._replicas[name].sent)))

    # ------------------------------------------------------------------ sessions and models

    def _home_ranks(self, session: str) -> Ranks:
        home = self.home_of(session)
        return ((home,),) if home is not None else ()

    def _line_of(self, key: Key, model: str) -> Line:
        """Return the line of a model that a request came for."""
        line = self._lines.models.get(model) or Line((), model=model)
        room = {name: one.room for name, one in self._replicas.items()}
        line.ranks = self._model_ranks(self._models.arrived(key, model, room))
        return line

    def _model_ranks(self, homes: tuple[str, ...]) -> Ranks:
        """Return a model's homes, before others that of this process."""
        if self.own in homes:
            return (self.own,), tuple(name for name in homes if name != self.own)
        return (homes,) if homes else ()

    def _is_hungry(self, line: Line) -> bool:
        """Tell whether a line of a model needs another replica: its last request would wait for more than one
        service time, or its first has waited for long."""
        if not line.model or not line.ranks:
            return False
        homes = (self._replicas.get(name) for rank in line.ranks for name in rank)
        return line.is_pressed or len(line.keys) > sum(one.slots for one in homes if one is not None)

    def _spread(self, free: list[str]) -> list[Command]:
        """Give models that need another replica these, of which a credit is idle."""
        commands: list[Command] = []
        while free := [name for name in free if name in self._replicas and self._replicas[name].is_free]:
            hungry = [line for line in self._lines.models.values() if self._is_hungry(line)]
            for line in sorted(hungry, key=lambda line: -len(line.keys)):
                if self._models.grown(line.model, free):
                    line.ranks, line.pressed = self._model_ranks(self._models.homes(line.model)), 0
                    commands += self._settle()
                    break
            else:
                break
        return commands

    def _find_homes(self) -> None:
        """The replicas have changed: find those of the sessions and models that wait."""
        names = self.replicas()
        self._models.replicas_changed([name for name in names if name not in self.avoided] or names)
        for line in self._lines.others:
            if line.session:
                line.ranks = self._home_ranks(line.session)
            elif line.model:
                line.ranks = self._model_ranks(self._models.homes(line.model))

    def _report(self, name: str, one: Credits, wanted: int) -> Report:
        one.number += 1
        one.listening = True
        one.asked = min(wanted, one.slots)
        return Report(name, one.number, one.asked, one.held, one.received)

    def _forget_if_done(self, name: str, one: Credits) -> None:
        if one.retired and not one.sent:
            del self._replicas[name]
