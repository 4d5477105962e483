"""skate on a Ray cluster of three nodes of this machine: where work runs, what pipelines compute, and what ends.

    python tests/compat/nodes_on_ray.py          # in a Python with ray and pyarrow

It prints a line for each thing that holds, and ends with an error at the first that does not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

from ray.cluster_utils import Cluster

import skate
import skate.data

NODES, CPUS = 3, 2
ROWS = 60_000
#: Seconds until what must come to hold counts as not coming.
LONGEST_S = 120.0


def holds(what: str, is_so: object) -> None:
    if not is_so:
        raise AssertionError(f"{what}: it does not hold")
    print(f"ok: {what}", flush=True)


def until(what: str, condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LONGEST_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: it did not come to hold in {LONGEST_S:.0f} s")
        time.sleep(0.1)
    print(f"ok: {what}", flush=True)


@skate.remote
def where(value: Any) -> tuple[str, Any]:
    return skate.get_runtime_context().get_node_id(), value


@skate.remote(max_restarts=1, max_task_retries=0)
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    def place(self) -> tuple[int, str]:
        return os.getpid(), skate.get_runtime_context().get_node_id()


def checksum(rows: list[dict[str, Any]]) -> int:
    return sum(hash(tuple(sorted(row.items()))) for row in rows) % (1 << 61)


def pipelines(remote: bool) -> dict[str, int]:
    """Return what each pipeline computes, in this process or on the cluster."""
    context = skate.data.DataContext.get_current()
    context.local_limit_bytes = 0 if remote else 1 << 40
    source = skate.data.range(ROWS, override_num_blocks=12).map_batches(
        lambda batch: {"id": batch["id"], "key": batch["id"] * 7919 % 101, "value": batch["id"] % 13}
    )
    names = skate.data.from_items([{"key": key, "name": f"n{key % 5}"} for key in range(101)])
    made = {
        "map": source.map(lambda row: {**row, "more": row["value"] * 2}),
        "filter": source.filter(lambda row: row["id"] % 3 == 0),
        "sort": source.sort("key"),
        "groups": source.groupby("key").sum("value"),
        "join": source.join(names, join_type="inner", num_partitions=4, on=("key",)),
        "shuffle": source.random_shuffle(seed=3),
    }
    return {name: checksum(ds.take_all()) for name, ds in made.items()}


def main() -> None:
    expected = pipelines(remote=False)
    skate.shutdown()  # on a slow machine they have started a session: they were taking long
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS})
    others = [cluster.add_node(num_cpus=CPUS, resources={"far": 1}) for _ in range(NODES - 1)]
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    skate.init(address="ray", log_to_driver=False)
    try:
        holds("the session sees three nodes", sum(one["Alive"] for one in skate.nodes()) == NODES)
        holds("and the CPUs of all", skate.cluster_resources()["CPU"] == NODES * CPUS)
        found = skate.get([where.options(scheduling_strategy="SPREAD").remote(i) for i in range(60)])
        holds("tasks run on several nodes", len({node for node, _ in found}) > 1)
        holds("each once", [value for _, value in found] == list(range(60)))
        node = skate.get(where.options(resources={"far": 0.1}).remote(0))[0]
        ids = {one["NodeID"]: one["Resources"] for one in skate.nodes()}
        holds("a task runs where its resources are", "far" in ids[node])
        computed = pipelines(remote=True)
        for name, value in expected.items():
            holds(
                f"skate.data computes the same on one machine and on three: {name}", computed[name] == value
            )

        counter = Counter.remote()
        skate.get(counter.add.remote())
        pid, _ = skate.get(counter.place.remote())
        os.kill(pid, signal.SIGKILL)

        def is_back() -> bool:
            try:
                return skate.get(counter.add.remote()) >= 1
            except skate.exceptions.ActorUnavailableError:
                return False

        until("an actor whose process was killed comes back", is_back)
        holds("in another process", skate.get(counter.place.remote())[0] != pid)

        far = Counter.options(resources={"far": 1}, max_restarts=0, num_cpus=0).remote()
        place = skate.get(far.place.remote())[1]
        lost = next(one for one in others if one.node_id == place)
        cluster.remove_node(lost, allow_graceful=False)

        def died() -> bool:
            try:
                skate.get(far.add.remote())
            except skate.exceptions.ActorDiedError:
                return True
            except skate.exceptions.ActorUnavailableError:
                return False
            return False

        until("an actor whose node died raises ActorDiedError", died)
        found = skate.get([where.options(max_retries=3).remote(i) for i in range(20)])
        holds("tasks go on with the nodes that are left", [value for _, value in found] == list(range(20)))
    finally:
        skate.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
