"""Models: the best replica first, few loads, hot ones spread, cold ones stay, and nobody waits for ever."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skate.serve._router import router as routing
from skate.serve._router.models import Held, Models

from .simulated import Simulation

NAMES = [f"l{number}" for number in range(4)]


def held(**models: str) -> dict[str, Held]:
    """Return what replicas hold: of each the loaded models, a slash, and those that it loads; all letters."""
    found = {}
    for name, text in models.items():
        loaded, _, loading = text.partition("/")
        found[name] = Held(frozenset(loaded), frozenset(loading))
    return found


def made(**models: str) -> Models:
    found = Models()
    found.replicas_changed(NAMES)
    found.informed(held(**models))
    return found


# ---------------------------------------------------------------------- decisions


def test_nothing_is_decided_before_it_is_known_what_replicas_hold() -> None:
    models = Models()
    models.replicas_changed(NAMES)
    assert models.arrived("k1", "a", {}) == ()
    models.informed({})
    assert len(models.homes("a")) == 1


def test_loaded_comes_before_loading_and_that_before_the_fewest() -> None:
    models = made(l0="abc", l1="defgh", l2="xyz/a", l3="")
    assert models.homes("a") == ("l0",)
    assert models.grown("a", ["l1", "l2", "l3"]) == "l2"
    assert models.grown("a", ["l1", "l3"]) == "l3"
    assert models.homes("a") == ("l0", "l2", "l3")
    assert models.homes("new") == ("l3",)


def test_processes_that_know_the_same_decide_alike_and_models_spread() -> None:
    one, other = made(), made()
    names = [f"model {number}" for number in range(100)]
    homes = [one.homes(name) for name in names]
    assert homes == [other.homes(name) for name in names]
    assert Counter(homes) == dict.fromkeys([(name,) for name in NAMES], 25)


def test_a_home_stays_while_its_requests_run_and_then_gives_way_to_one_that_has_the_model() -> None:
    models = made()
    (home,) = models.arrived("k1", "a", {})
    models.sent("k1")
    other = next(name for name in NAMES if name != home)
    models.informed(held(**{other: "a"}))
    assert models.arrived("k2", "a", {}) == (home,)  # it is about to load it
    models.ended("k2")
    models.ended("k1")
    models.informed({})
    assert models.arrived("k3", "a", {}) == (home,)  # its report is late
    models.ended("k3")
    models.informed(held(**{home: "a"}))
    models.informed(held(**{other: "a"}))
    assert models.arrived("k4", "a", {}) == (other,)  # it had it, and has dropped it


def test_a_request_that_waits_moves_to_the_replica_that_another_process_has_chosen() -> None:
    models = made()
    (home,) = models.arrived("k1", "a", {})
    other = next(name for name in NAMES if name != home)
    models.informed(held(**{other: "/a"}))
    assert models.homes("a") == (other,)


def test_a_dropped_model_stays_unless_another_replica_has_much_fewer() -> None:
    models = made()
    homes = {name: models.homes(name)[0] for name in "abcdefgh"}
    models.informed(held(**{home: "".join(n for n, h in homes.items() if h == home) for home in NAMES}))
    models.informed({})
    for name, home in homes.items():
        assert models.arrived(name, name, {}) == (home,)
        models.ended(name)
    models.replicas_changed([*NAMES, "new"])
    models.informed(held(**{home: "".join(n for n, h in homes.items() if h == home) for home in NAMES}))
    models.informed(held(**dict.fromkeys(NAMES, "uvwxyz")))
    assert models.arrived("a", "a", {}) == ("new",)


def test_homes_that_are_not_needed_are_given_up_and_those_that_are_stay() -> None:
    models = made()
    models.homes("a")
    models.grown("a", NAMES)
    room = dict.fromkeys(NAMES, 4)
    for number in range(200):  # three at a time
        models.arrived(number, "a", room)
        models.ended(number - 3)
    assert len(models.homes("a")) == 2
    for number in range(200, 240):  # one at a time
        models.ended(number - 1)
        models.ended(number - 2)
        models.ended(number - 3)
        models.arrived(number, "a", room)
    assert len(models.homes("a")) == 1


def test_homes_that_are_gone_are_replaced() -> None:
    models = made()
    (home,) = models.homes("a")
    models.replicas_changed([name for name in NAMES if name != home])
    (other,) = models.homes("a")
    assert other != home
    models.replicas_changed([])
    assert models.homes("a") == ()


# ---------------------------------------------------------------------- in a simulation


class Zoo(Simulation):
    """Routers and replicas with many models. Times are service times.

    Args:
        seed: of what happens by chance.
        routers, replicas, slots: how many there are.
        size: how many models a replica keeps.
        load_s: how long the load of one takes.
        late_s: how long a replica's report of its models takes.
    """

    def __init__(
        self, seed: int, routers: int, replicas: int, slots: int, size: int, load_s: float, late_s: float
    ) -> None:
        super().__init__(seed, routers, replicas, slots, delay=0.002)
        self.slots, self.size, self.load_s, self.late_s = slots, size, load_s, late_s
        self.loaded: dict[str, OrderedDict[str, None]] = {name: OrderedDict() for name in self.lenders}
        #: When the load of a model ends.
        self.loading: dict[str, dict[str, float]] = {name: {} for name in self.lenders}
        self.model_of: dict[Any, str] = {}
        self.begun_at: dict[Any, float] = {}
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.loads: Counter[str] = Counter()
        self.served: Counter[tuple[str, str]] = Counter()
        for router in self.routers.values():
            router.informed({})
        self.looking: set[str] = set()

    def relax(self, name: str) -> None:
        self.of_router(name, self.routers[name].relaxed(False))
        if self.now < self.closes_at:
            self.at(self.now + 0.1, self.relax, name)

    # ------------------------------------------------------------------ as a port does

    def submit(self, name: str, key: Any, model: str) -> None:
        self.model_of[key], self.begun_at[key] = model, self.now
        router = self.routers[name]
        self.of_router(name, router.submitted(key, model=model))
        if router.is_waiting(key):
            self.at(self.now + max(10, 2 * self.load_s), self.press, name, key)
            self.look_soon(name)

    def look_soon(self, name: str) -> None:
        if name not in self.looking and self.routers[name].is_hungry:
            self.looking.add(name)
            self.at(self.now + 0.1, self.look, name)

    def look(self, name: str) -> None:
        self.looking.discard(name)
        self.of_router(name, self.routers[name].look())
        self.look_soon(name)

    def press(self, name: str, key: Any) -> None:
        self.of_router(name, self.routers[name].pressed(key))

    def of_router(self, name: str, commands: list[routing.Command]) -> None:
        for command in commands:
            if isinstance(command, routing.Send):
                self.soon(self.arrive, name, command.replica, command.key)
            elif isinstance(command, routing.Report):
                self.soon(self.report, name, command)

    # ------------------------------------------------------------------ as a replica does

    def begin(self, name: str, replica: str, key: Any) -> None:
        model = self.model_of[key]
        ready = self.now
        if model in self.loaded[replica]:
            self.loaded[replica].move_to_end(model)
        elif model in self.loading[replica]:
            ready = self.loading[replica][model]
        else:
            ready = self.loading[replica][model] = self.now + self.load_s
            self.loads[model] += 1
            self.at(ready, self.is_loaded, replica, model)
            self.say()
        self.waits[model].append(self.now - self.begun_at.pop(key))
        self.at(ready + self.random.uniform(0.5, 1.5), self.end, name, replica, key)

    def is_loaded(self, replica: str, model: str) -> None:
        del self.loading[replica][model]
        while len(self.loaded[replica]) >= self.size:
            self.loaded[replica].popitem(last=False)
        self.loaded[replica][model] = None
        self.say()

    def say(self) -> None:
        said = {
            name: Held(frozenset(self.loaded[name]), frozenset(self.loading[name])) for name in self.lenders
        }
        for name in self.routers:
            self.at(self.now + self.late_s, self.hear, name, said)

    def hear(self, name: str, said: dict[str, Held]) -> None:
        self.of_router(name, self.routers[name].informed(said))

    def end(self, name: str, replica: str, key: Any) -> None:
        self.served[self.model_of[key], replica] += 1
        self.of_lender(replica, self.lenders[replica].ended(name, True, self.now))
        self.soon(self.ended, name, key)

    def ended(self, name: str, key: Any) -> None:
        self.of_router(name, self.routers[name].ended(key, True))

    # ------------------------------------------------------------------ what comes

    def arrivals(self, share: float, until: float, models: int, power: float) -> Counter[str]:
        """Have requests come at a share of the capacity, for models whose popularity follows Zipf."""
        weights = [1 / (number + 1) ** power for number in range(models)]
        rate = share * self.slots * len(self.lenders)
        moment, asked = self.now, Counter[str]()
        self.closes_at = until
        for name in self.lenders:
            self.tick(name)
        for name in self.routers:
            self.relax(name)
        while (moment := moment + self.random.expovariate(rate)) <= until:
            model = f"m{self.random.choices(range(models), weights)[0]}"
            asked[model] += 1
            self.at(moment, self.submit, self.random.choice([*self.routers]), next(self._numbers), model)
        return asked


def is_done(zoo: Zoo) -> bool:
    return all(one.queued == one.ongoing == 0 for one in zoo.routers.values()) and all(
        one.ongoing == 0 for one in zoo.lenders.values()
    )


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_hundred_models_of_which_few_are_hot(routers: int, share: float) -> None:
    """Models by Zipf on four replicas that keep 30 each: 20 copies fit beyond one of each model. A load takes
    as long as 20 requests."""
    zoo = Zoo(7, routers, replicas=4, slots=4, size=30, load_s=20, late_s=0.05)
    zoo.arrivals(share, 150, models=100, power=1.1)
    zoo.run(math.inf)
    assert is_done(zoo)
    first = zoo.loads.copy()
    assert first.total() <= 130, "almost all are loaded once"

    zoo.waits.clear()
    zoo.served.clear()
    asked = zoo.arrivals(share, zoo.now + 500, models=100, power=1.1)
    zoo.run(math.inf)
    assert is_done(zoo), "all were served"
    assert (zoo.loads - first).total() <= asked.total() / 100, "copies come and go seldom"
    by_model = {model: [zoo.served[model, name] for name in zoo.lenders] for model in asked}
    # The hottest model asks for most of what one replica can do, or more, and gets several.
    assert sum(count > asked["m0"] / 10 for count in by_model["m0"]) >= 2
    # Cold ones have one replica.
    cold = [counts for model, counts in by_model.items() if int(model[1:]) >= 30]
    assert sum(sum(map(bool, counts)) for counts in cold) <= 1.3 * len(cold)
    # Nobody starves: the longest wait is that for a load or two.
    assert max(map(max, zoo.waits.values())) < 60
    assert sum(map(sum, zoo.waits.values())) / asked.total() < 2


def test_one_model_gets_all_replicas_and_gives_them_back() -> None:
    zoo = Zoo(7, 1, replicas=4, slots=4, size=30, load_s=5, late_s=0.05)
    zoo.arrivals(0.9, 200, models=1, power=1)
    zoo.run(math.inf)
    assert is_done(zoo)
    assert zoo.loads.total() == 4
    assert min(zoo.served["m0", name] for name in zoo.lenders) > 0.15 * sum(zoo.served.values())
    (router,) = zoo.routers.values()
    assert len(router._models.homes("m0")) == 4
    zoo.arrivals(0.02, zoo.now + 500, models=1, power=1)
    zoo.run(math.inf)
    assert len(router._models.homes("m0")) == 1


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    routers=st.integers(1, 3),
    replicas=st.integers(1, 4),
    slots=st.integers(1, 4),
    size=st.integers(1, 10),
    load_s=st.sampled_from([0.0, 1.0, 10.0]),
    late_s=st.sampled_from([0.01, 1.0, 30.0]),
    share=st.sampled_from([0.3, 0.9, 2.0]),
    models=st.integers(1, 30),
)
def test_random_zoos_serve_all(
    seed: int,
    routers: int,
    replicas: int,
    slots: int,
    size: int,
    load_s: float,
    late_s: float,
    share: float,
    models: int,
) -> None:
    zoo = Zoo(seed, routers, replicas, slots, size, load_s, late_s)
    asked = zoo.arrivals(share, 20, models, power=1)
    zoo.run(math.inf)
    assert is_done(zoo)
    assert sum(zoo.served.values()) == asked.total()
    for router in zoo.routers.values():
        assert not router._models._ongoing
        assert not router._models._model_of
        assert not router._models._running
        assert not router._lines.models
        assert not router._lines.others
