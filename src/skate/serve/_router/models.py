"""Which replicas the requests for a model go to. Decisions only: no I/O, no clock.

A model has *homes*: the replicas that its requests wait for. The first is one that has the model, else one
that loads it, else the one with the fewest models. A model gets another home when its own queue is longer
than all of its homes can begin at a time, so that its last request would wait for more than one service
time, and only where a credit is idle. A model that many ask for therefore spreads; others, however long they
wait behind it, are loaded once. A home that is not needed for many requests in a row is given up, so that
the replica forgets the copy first.

Processes decide on their own. They agree because they know the same loaded models, and because ties are
broken by a hash of model and replica.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import NamedTuple

from skate.serve._router.sessions import ranked

#: A home is given up after so many requests in a row that did not need it.
_UNNEEDED = 32
#: The homes of so many models are remembered.
_MOST_MODELS = 1024


class Held(NamedTuple):
    """The models of one replica."""

    loaded: frozenset[str] = frozenset()
    loading: frozenset[str] = frozenset()


_NOTHING = Held()


class _Model:
    """One model, as the router sees it."""

    __slots__ = ("homes", "unneeded")

    def __init__(self) -> None:
        #: Its homes in the order in which it got them, and whether each has reported to have the model. One
        #: that has not yet may still be about to.
        self.homes: dict[str, bool] = {}
        #: Requests in a row that did not need the last home.
        self.unneeded = 0


class Models:
    """The models of one deployment's replicas."""

    def __init__(self) -> None:
        #: Nothing is decided before the first report of what replicas hold.
        self.is_informed = False
        self._replicas: list[str] = []
        self._held: Mapping[str, Held] = {}
        #: The latest used last.
        self._models: OrderedDict[str, _Model] = OrderedDict()
        #: The models of the requests that wait or run, and how many there are of each.
        self._model_of: dict[Hashable, str] = {}
        self._ongoing: Counter[str] = Counter()
        #: Those of these requests that were sent.
        self._sent: set[Hashable] = set()
        self._running: Counter[str] = Counter()

    # ------------------------------------------------------------------ events

    def replicas_changed(self, replicas: Iterable[str]) -> None:
        """The deployment has these replicas now: those that are gone are homes no more."""
        self._replicas = list(replicas)
        for one in self._models.values():
            for name in [name for name in one.homes if name not in self._replicas]:
                del one.homes[name]

    def informed(self, held: Mapping[str, Held]) -> None:
        """Replicas hold these models now."""
        self.is_informed = True
        self._held = held
        for replica, models in held.items():
            for model in models.loaded | models.loading:
                one = self._models.get(model)
                if one is not None and replica in one.homes:
                    one.homes[replica] = True

    def arrived(self, key: Hashable, model: str, room: Mapping[str, int]) -> tuple[str, ...]:
        """A request for a model came; return the model's homes.

        Args:
            key: identifies it.
            model: its id.
            room: how many requests from here each replica can run at a time.
        """
        one = self._models.get(model)
        if one is not None and self.is_informed and self._replicas:
            if not self._ongoing[model]:  # else its homes stay: reports may be late
                kept = {name: seen for name, seen in one.homes.items() if not seen or self._has(name, model)}
                one.homes = kept or {self._best(model, one): False}
            self._give_up(one, self._ongoing[model] + 1, room)
        self._model_of[key] = model
        self._ongoing[model] += 1
        return self.homes(model)

    def sent(self, key: Hashable) -> None:
        """A request was sent to one of its homes, which has the model from now on, or will have."""
        model = self._model_of.get(key)
        if model is not None:
            self._sent.add(key)
            self._running[model] += 1

    def ended(self, key: Hashable) -> None:
        """A request, if it was for a model, has ended or was cancelled."""
        model = self._model_of.pop(key, None)
        if model is None:
            return
        self._ongoing[model] -= 1
        if not self._ongoing[model]:
            del self._ongoing[model]
        if key in self._sent:
            self._sent.discard(key)
            self._running[model] -= 1
            if not self._running[model]:
                del self._running[model]

    def homes(self, model: str) -> tuple[str, ...]:
        """Return a model's homes; it gets a first one, if it has none. None: replicas are unknown yet.

        As long as nothing was sent, a home without the model gives way to a replica that has it by now: other
        processes have the same request.
        """
        if not self.is_informed or not self._replicas:
            return ()
        one = self._models.setdefault(model, _Model())
        self._models.move_to_end(model)
        is_vague = not self._running[model] and not any(self._has(name, model) for name in one.homes)
        if not one.homes or (is_vague and any(self._has(name, model) for name in self._replicas)):
            one.homes, one.unneeded = {self._best(model, one): False}, 0
        if len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        return tuple(one.homes)

    def grown(self, model: str, free: Collection[str]) -> str | None:
        """Give a model one more home.

        Args:
            model: its id.
            free: replicas with an idle credit.

        Returns:
            The home; None: all of these replicas are.
        """
        one = self._models.get(model)
        others = [name for name in free if one is not None and name not in one.homes]
        if one is None or not others:
            return None
        name = min(others, key=self._scores(model).__getitem__)
        one.homes[name] = self._has(name, model)
        one.unneeded = 0
        return name

    # ------------------------------------------------------------------ rules

    def _give_up(self, one: _Model, ongoing: int, room: Mapping[str, int]) -> None:
        if len(one.homes) < 2:
            return
        *others, last = one.homes
        is_needed = ongoing > max(1, sum(room.get(name, 0) for name in others) // 2)
        one.unneeded = 0 if is_needed else one.unneeded + 1
        if one.unneeded >= _UNNEEDED:
            del one.homes[last]
            one.unneeded = 0

    def _best(self, model: str, one: _Model) -> str:
        """Return a first home. A model that no replica has any more stays where it was, unless another
        replica has fewer models even with it."""
        scores = self._scores(model)
        best = min(self._replicas, key=scores.__getitem__)
        old = next(iter(one.homes), None)
        if old is None or scores[best][0] < scores[old][0] or scores[best][1] + 1 < scores[old][1]:
            return best
        return old

    def _scores(self, model: str) -> dict[str, tuple[int, int, int]]:
        """Return how well each replica suits a model, the best lowest: whether it has the model, how many
        others it has or is to have, and the order of the ranks."""
        own: dict[str, set[str]] = {}
        for name, one in self._models.items():
            for home in one.homes:
                own.setdefault(home, set()).add(name)
        order = {name: number for number, name in enumerate(ranked(model, self._replicas))}
        found = {}
        for name in self._replicas:
            held = self._held.get(name, _NOTHING)
            count = len((held.loaded | held.loading | own.get(name, set())) - {model})
            has = 0 if model in held.loaded else 1 if model in held.loading else 2
            found[name] = has, count, order[name]
        return found

    def _has(self, replica: str, model: str) -> bool:
        held = self._held.get(replica, _NOTHING)
        return model in held.loaded or model in held.loading
