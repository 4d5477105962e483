"""The slots of one replica, and the credits that it lends to routers. Decisions only: no I/O, no clock.

Invariants: at most ``slots`` requests run at a time, whatever the routers believe; a request that arrives
without a credit (its credit was revoked, or the replica was given fewer slots) waits here until a slot is
free. Every router
that waits gets a credit: one that holds more than its share is asked to give one back, and after
``REVOKE_AFTER_S`` its unused ones are lent to others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

#: Unused credits that a router was asked for are lent to others after this time (seconds): its process may
#: be blocked.
REVOKE_AFTER_S = 0.05

#: The router in the replica's own process, for the HTTP requests that come to it.
HERE = ""


@dataclass(slots=True, unsafe_hash=True)
class Answer:
    """Answers the router's latest report: so many credits are granted, so many are to be given back."""

    router: str
    granted: int
    recalled: int


@dataclass(slots=True, unsafe_hash=True)
class Begin:
    """A request that waited in the replica runs now."""

    token: Hashable


Command = Answer | Begin


@dataclass
class _Account:
    """One router, as the lender sees it."""

    #: Credits at the router or on their way to it, not used by a request.
    lent: int = 0
    #: Its requests that run, or wait in the replica.
    running: int = 0
    #: Credits that it would like to have beyond those.
    wanted: int = 0
    #: It would take one that nobody else wants.
    takes_spare: bool = False
    #: All credits that were ever sent to it, by answers and results.
    issued: int = 0
    #: It waits for an answer to its report.
    listening: bool = False
    #: When its latest report was answered. A process that is not blocked reports again soon.
    answered_at: float = 0.0
    #: When it got a credit last.
    granted_at: float = -math.inf
    #: How many credits it was asked to give back.
    recalled: int = 0
    #: It was asked and had none: it is not asked again before it gets one.
    is_bare: bool = False

    @property
    def size(self) -> int:
        return self.lent + self.running


class Lender:
    """The slots of a replica.

    Args:
        slots: how many requests may run at a time.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._accounts: dict[str, _Account] = {}
        #: Requests that ``begin_here`` let in: no router has them.
        self._direct = 0
        #: Requests that run, of routers that are gone too.
        self.running = 0
        #: Requests that wait for a slot, in the order of their arrival.
        self._waiting: deque[tuple[Hashable, str]] = deque()
        #: No more credits are lent: the replica is about to end.
        self.draining = False

    # ------------------------------------------------------------------ facts

    @property
    def lent(self) -> int:
        """Credits at routers, unused. Any thread."""
        return sum(one.lent for one in list(self._accounts.values()))

    @property
    def ongoing(self) -> int:
        """Requests in the replica: those that run, and those that wait for a slot."""
        return self.running + len(self._waiting)

    @property
    def is_awaited(self) -> bool:
        """Whether a router waits for a credit."""
        return any(one.wanted and one.listening for one in self._accounts.values())

    def routers(self) -> list[str]:
        """Return the ids of the other processes' routers that have an account. Any thread."""
        return [name for name in list(self._accounts) if name != HERE]

    def holds(self, router: str) -> int:
        """Return how many unused credits a router has, or will have."""
        return self._accounts[router].lent if router in self._accounts else 0

    # ------------------------------------------------------------------ events

    def begin_here(self) -> bool:
        """Take a slot for a request that came to the replica itself; False if it has to wait in its router.

        While a slot is free no router waits for a credit: a request that is let in overtakes nobody.
        """
        if self.draining or self._waiting or self.running + self.lent >= self.slots:
            return False
        self.running += 1
        self._direct += 1
        return True

    def ended_here(self, now: float) -> list[Command]:
        """A request that ``begin_here`` let in has ended."""
        self.running -= 1
        self._direct -= 1
        if not self._waiting and not self._takers() and self.running + self.lent < self.slots:
            return []  # there is nothing to decide
        return self._settle(now)

    def report(self, router: str, wanted: int, held: int, received: int, now: float) -> list[Command]:
        """A router reports what it has and wants, and waits for an answer.

        Args:
            router: its id.
            wanted: how many credits it would like beyond those that it holds; below 0: one, if nobody else
                wants it.
            held: its unused credits.
            received: all credits that ever came to it from this replica.
            now: seconds of a monotonic clock.
        """
        account = self._accounts.setdefault(router, _Account())
        # Of a call that was cancelled before it arrived, the router has the credit, and nobody issued it.
        account.issued = max(account.issued, received)
        account.lent = held + account.issued - received
        account.wanted, account.takes_spare = max(wanted, 0), wanted < 0
        account.listening = True
        account.is_bare = account.recalled > 0 and not account.lent
        account.recalled = 0
        return self._settle(now)

    def begins(self, router: str) -> bool:
        """A request came from a router. True: it uses a credit and runs at once, and nothing else is to be
        decided; False: call ``arrived``."""
        account = self._accounts.get(router)
        if account is None or not account.lent or self._waiting or self.running >= self.slots:
            return False
        account.lent -= 1
        account.running += 1
        self.running += 1
        return True

    def arrived(self, router: str, token: Hashable, now: float) -> list[Command]:
        """A request came from a router. It runs at once (``Begin`` is among the commands), or later."""
        account = self._accounts.setdefault(router, _Account())
        if account.lent:
            account.lent -= 1
        account.running += 1
        self._waiting.append((token, router))
        return self._settle(now)

    def ended(self, router: str, keeps: bool, now: float) -> list[Command]:
        """A request of a router has ended.

        Args:
            router: its id.
            keeps: its result or error brings the credit back to the router.
            now: seconds of a monotonic clock.
        """
        self.running -= 1
        account = self._accounts.get(router)
        if account is not None:
            account.running -= 1
            if keeps:
                account.lent += 1
                account.issued += 1
                account.is_bare = False
                if not self._waiting and not self.is_awaited and self.running + self.lent <= self.slots:
                    return []  # there is nothing to decide
        return self._settle(now)

    def withdrawn(self, token: Hashable, now: float) -> list[Command]:
        """A request that waited here was cancelled before it ran.

        Raises:
            KeyError: it does not wait.
        """
        for index, (waiting, router) in enumerate(self._waiting):
            if waiting == token:
                del self._waiting[index]
                if router in self._accounts:
                    self._accounts[router].running -= 1
                return self._settle(now)
        raise KeyError(f"no request {token!r} waits for a slot")

    def gone(self, router: str, now: float) -> list[Command]:
        """A router's process has ended: its credits are free."""
        self._accounts.pop(router, None)
        return self._settle(now)

    def resized(self, slots: int, now: float) -> list[Command]:
        """The replica may run another number of requests from now on."""
        self.slots = slots
        return self._settle(now)

    def drain(self, now: float) -> list[Command]:
        """Lend no more credits. Requests that come with one still run."""
        self.draining = True
        return self._settle(now)

    def tick(self, now: float) -> list[Command]:
        """Revoke unused credits of routers that did not answer in time."""
        if self.is_awaited:
            for account in self._accounts.values():
                if not account.listening and now - account.answered_at >= REVOKE_AFTER_S:
                    account.lent = account.recalled = 0
        return self._settle(now)

    # ------------------------------------------------------------------ rules

    def _settle(self, now: float) -> list[Command]:
        commands: list[Command] = []
        while self._waiting and self.running < self.slots:
            token, _ = self._waiting.popleft()
            self.running += 1
            commands.append(Begin(token))
        if not self.draining:
            commands += self._grant(now)
        commands += self._recall(now)
        return commands

    def _grant(self, now: float) -> list[Command]:
        granted: dict[str, int] = {}
        free = self.slots - self.ongoing - self.lent
        while free > 0:
            name, poorest = min(
                self._takers(),
                # Among equals the one that waits longest, or the first would win each time.
                key=lambda pair: (
                    pair[1].size + (self._direct if pair[0] == HERE else 0),
                    pair[1].granted_at,
                ),
                default=("", None),
            )
            if poorest is None:
                break
            poorest.wanted = max(poorest.wanted - 1, 0)
            poorest.takes_spare = False
            poorest.lent += 1
            poorest.issued += 1
            poorest.granted_at = now
            poorest.is_bare = False
            granted[name] = granted.get(name, 0) + 1
            free -= 1
        for name in granted:
            self._accounts[name].listening = False
            self._accounts[name].answered_at = now
        return [Answer(name, count, 0) for name, count in granted.items()]

    def _takers(self) -> list[tuple[str, _Account]]:
        """Return the routers that get the next credit: those that wait; without any, those that take a spare
        one."""
        listening = [(name, one) for name, one in self._accounts.items() if one.listening]
        return [(name, one) for name, one in listening if one.wanted] or [
            (name, one) for name, one in listening if one.takes_spare
        ]

    def _recall(self, now: float) -> list[Command]:
        """Ask for credits where others wait for their share, or where more are out than there are slots."""
        answers: list[Command] = []
        excess = self.ongoing + self.lent - self.slots
        poor = sorted(
            one.size for one in self._accounts.values() if one.listening and one.wanted and not self.draining
        )
        needed = [*(-1 for _ in range(excess)), *poor]
        # Credits that were asked for already are on their way.
        needed = needed[sum(one.recalled for one in self._accounts.values()) :]
        for size in needed:
            rich = [
                (name, one)
                for name, one in self._accounts.items()
                if one.listening and not one.wanted and one.lent > one.recalled
            ] or [
                (name, one)
                for name, one in self._accounts.items()
                if one.listening
                and not one.is_bare
                and one.size > one.recalled
                and (size < 0 or one.size >= size + 2 or not size)
            ]
            if not rich:
                break
            name, richest = max(rich, key=lambda pair: pair[1].size)
            richest.recalled += 1
            richest.listening = False
            richest.answered_at = now
            answers.append(Answer(name, 0, richest.recalled))
        return answers
