"""The ranks of replicas: their contexts, ``reconfigure``, replacements, updates, a restarted controller."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import skate
from skate import serve
from skate.serve.schema import ReplicaRank

from .conftest import Web
from .processes import kill_controller, replicas

Wait = Callable[[Callable[[], object]], None]
Seen = dict[str, tuple[int, int, int]]


@serve.deployment
class Ranked:
    """Knows its rank from its context and from ``reconfigure``."""

    def __init__(self) -> None:
        self.at_first = serve.get_replica_context().rank
        self.given: list[tuple[Any, int]] = []

    def reconfigure(self, config: Any, rank: ReplicaRank) -> None:
        assert rank == serve.get_replica_context().rank
        self.given.append((config, rank.rank))


def look(function: Callable[[Any], Any], name: str = "Ranked") -> dict[str, Any]:
    """Run a function on the instance of each running replica; return the results by replica."""

    def inside(replica: Any) -> Any:
        return function(replica._code.servable)

    try:
        return {key: skate.get(one.__ray_call__.remote(inside)) for key, one in replicas(name).items()}
    except skate.exceptions.RayActorError:
        return {}  # one has ended meanwhile: look again


def ranks(_: Any) -> tuple[int, int, int]:
    context = serve.get_replica_context()
    assert context.rank.local_rank == context.rank.rank
    return context.rank.rank, context.rank.node_rank, context.world_size


def are_complete(seen: Seen, number: int) -> bool:
    return sorted(seen.values()) == [(rank, 0, number) for rank in range(number)]


def test_a_replacement_takes_the_rank_of_a_dead_replica(web: Web, wait_until: Wait) -> None:
    serve.run(Ranked.options(num_replicas=3).bind(), route_prefix=None)
    before: Seen = look(ranks)
    assert are_complete(before, 3)
    victim = next(name for name, (rank, _, _) in before.items() if rank == 1)
    os.kill(look(lambda _: os.getpid())[victim], signal.SIGKILL)
    wait_until(lambda: victim not in (now := look(ranks)) and len(now) == 3)
    after: Seen = look(ranks)
    assert are_complete(after, 3)
    assert {name: seen for name, seen in before.items() if name != victim}.items() <= after.items()
    (new,) = {*after} - {*before}
    assert look(lambda one: (one.at_first.rank, one.given))[new] == (1, [(None, 1)])


def test_an_update_ends_with_the_ranks_that_it_began_with(web: Web, wait_until: Wait) -> None:
    two = Ranked.options(num_replicas=2)
    serve.run(two.bind(), route_prefix=None)
    serve.run(two.options(user_config="other").bind(), route_prefix=None)
    wait_until(lambda: all(given[-1][0] == "other" for given in look(lambda one: one.given).values()))
    before = {*look(ranks)}
    serve.run(
        two.options(ray_actor_options={"num_cpus": 0.01}, user_config="other").bind(), route_prefix=None
    )
    wait_until(lambda: are_complete(look(ranks), 2))
    assert not before & {*look(ranks)}
    # The first of the new ones began beside both old ones; its reconfigure said where it moved.
    wait_until(
        lambda: (
            sorted(given[-1] for given in look(lambda one: one.given).values())
            == [("other", 0), ("other", 1)]
        )
    )
    assert max(one.rank for one in look(lambda one: one.at_first).values()) >= 2


def test_fewer_replicas_have_the_lower_ranks(web: Web, wait_until: Wait) -> None:
    serve.run(Ranked.options(num_replicas=3).bind(), route_prefix=None)
    serve.run(Ranked.options(num_replicas=1).bind(), route_prefix=None)
    wait_until(lambda: are_complete(look(ranks), 1))


def test_a_restarted_controller_leaves_the_ranks(web: Web, wait_until: Wait) -> None:
    serve.run(Ranked.options(num_replicas=3).bind(), route_prefix=None)
    victim = next(name for name, (rank, _, _) in look(ranks).items() if rank == 0)
    os.kill(look(lambda _: os.getpid())[victim], signal.SIGKILL)
    wait_until(lambda: victim not in (now := look(ranks)) and len(now) == 3)
    before: Seen = look(ranks)  # the newest replica has rank 0
    kill_controller()
    wait_until(lambda: serve.status().applications["default"].status == "RUNNING")
    assert look(ranks) == before
    serve.run(Ranked.options(num_replicas=3, user_config="new").bind(), route_prefix=None)
    wait_until(lambda: all(given[-1][0] == "new" for given in look(lambda one: one.given).values()))
    assert look(ranks) == before


def test_without_a_parameter_rank_reconfigure_gets_none(web: Web) -> None:
    @serve.deployment(user_config={"a": 1})
    class Old:
        def reconfigure(self, config: Any) -> None:
            self.config = config

        def __call__(self) -> tuple[Any, ReplicaRank]:
            return self.config, serve.get_replica_context().rank

    handle = serve.run(Old.bind(), route_prefix=None)
    assert handle.remote().result() == ({"a": 1}, ReplicaRank(rank=0, node_rank=0, local_rank=0))
