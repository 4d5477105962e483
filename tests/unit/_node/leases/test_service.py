"""What the lease table decides reaches lessees and workers; timers run while there is need."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skate._base.config import Config
from skate._base.resources import UNIT
from skate._node.clients import Client, Clients
from skate._node.events import WorkerEnded
from skate._node.leases.lessee import ProcessLessee
from skate._node.leases.records import Lease, Refuse
from skate._node.leases.service import LeaseService
from skate._node.leases.table import LeaseTable
from skate._wire import node

CPU = {"CPU": UNIT}
POOL = b"job"


class Lessee:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def granted(self, lease: Lease, gpus: list[str]) -> None:
        self.heard.append(("granted", lease.worker, gpus))

    def refused(self, refusal: Refuse) -> None:
        self.heard.append(("refused", refusal.shape, refusal.fatal))

    def reclaim(self, busy: int) -> None:
        self.heard.append(("reclaim", busy))

    def worker_died(self, lease: Lease, ended: WorkerEnded) -> None:
        self.heard.append(("died", lease.worker, ended.cause))


class Node:
    def __init__(self, cpus: int = 1, gpus: int = 0) -> None:
        total = {"CPU": cpus * UNIT} | ({"GPU": gpus * UNIT} if gpus else {})
        self.table = LeaseTable(total, 100, [f"gpu{index}" for index in range(gpus)])
        self.timers: list[Any] = []
        self.sent: list[tuple[bytes, Any]] = []
        self.context = SimpleNamespace(
            reactor=SimpleNamespace(call_later=self.call_later), config=Config(), closing=False, cpu_count=cpus,
            send=lambda process, message: self.sent.append((process, message)),
        )  # fmt: skip
        self.started: list[tuple[bytes, int]] = []
        self.reports: list[Any] = []
        self.watched = 0
        self.ended: list[tuple[bytes, str]] = []
        self.groups: list[tuple[bytes, int | None]] = []
        self.leases = LeaseService(
            cast(Any, self.context), self.table,
            start_workers=lambda pool, count: self.started.append((pool, count)),
            end_worker=lambda worker, reason: self.ended.append((worker, reason)),
            on_group=lambda group, attempt: self.groups.append((group, attempt)),
            on_leases=self.watch, report_free=lambda free: self.reports.append(dict(free)),
        )  # fmt: skip
        self.lessees = {name: Lessee() for name in (b"a", b"b")}
        for name, lessee in self.lessees.items():
            self.leases.add_lessee(name, lessee)

    def watch(self) -> None:
        self.watched += 1

    def call_later(self, delay: float, callback: Any) -> Any:
        self.timers.append(callback)
        return SimpleNamespace(cancel=lambda: None)

    def time_passes(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()

    def say(self, process: bytes, message: Any) -> None:
        connection = cast(Any, SimpleNamespace(peer=SimpleNamespace(id=process)))
        self.leases.handlers()[type(message)](connection, message)

    def ends(self, worker: bytes, *, was_ready: bool = True) -> None:
        self.leases.worker_ended(WorkerEnded(worker, POOL, "it crashed", was_ready, b"", 0))

    def heard(self, lessee: bytes) -> list[Any]:
        heard, self.lessees[lessee].heard = self.lessees[lessee].heard, []
        return heard


@pytest.fixture
def here() -> Iterator[Node]:
    """A node with an idle worker."""
    here = Node()
    here.leases.worker_ready(b"w1", POOL)
    here.time_passes()
    yield here
    for worker in (b"w1", b"w2"):
        here.ends(worker)
    for lessee in here.lessees:
        here.leases.lessee_gone(lessee)
    assert here.table.free == here.table.total and here.table.leases == {}


def test_a_worker_is_started_and_granted_when_it_is_ready() -> None:
    here = Node(gpus=1)
    here.leases.demand(b"a", 1, POOL, CPU | {"GPU": UNIT}, 1, 0)
    assert here.started == [(POOL, 1)] and here.heard(b"a") == []
    here.leases.worker_ready(b"w1", POOL)
    assert here.heard(b"a") == [("granted", b"w1", ["gpu0"])]
    assert here.watched, "memory is looked at while there are leases"


def test_only_the_lessee_returns_its_lease(here: Node) -> None:
    here.leases.demand(b"a", 1, POOL, CPU, 1, 0)
    (number,) = here.table.leases
    assert here.leases.leased_worker(number, b"a") == b"w1"
    assert here.leases.leased_worker(number, b"b") == here.leases.leased_worker(99, b"a") == b""
    here.say(b"b", node.LeaseReturned(number))
    assert list(here.table.leases) == [number]
    here.leases.demand(b"a", 1, POOL, CPU, 0, 0)
    here.say(b"a", node.LeaseReturned(number))
    assert here.table.leases == {}


def test_the_lessee_learns_of_the_death_before_it_is_served_again(here: Node) -> None:
    here.leases.worker_ready(b"w2", POOL)
    here.leases.demand(b"a", 1, POOL, CPU, 1, 0)
    (lease,) = here.table.leases.values()
    worker, other = lease.worker, {b"w1": b"w2", b"w2": b"w1"}[lease.worker]
    here.heard(b"a")
    here.ends(worker)
    assert here.heard(b"a") == [("died", worker, "it crashed"), ("granted", other, [])]


def test_what_an_ended_worker_had_leased_itself_is_free(here: Node) -> None:
    here.leases.add_lessee(b"w2", ProcessLessee(b"w2", Clients()))
    here.leases.worker_ready(b"w2", POOL)
    here.leases.demand(b"a", 1, POOL, {}, 1, 0)
    assert here.heard(b"a") == [("granted", b"w2", [])]
    here.leases.demand(b"w2", 1, POOL, CPU, 1, 1)  # its task calls another
    here.ends(b"w2")
    assert here.heard(b"a")[0] == ("died", b"w2", "it crashed")
    assert here.table.free["CPU"] == UNIT
    assert here.sent == [(b"w1", node.OwnerLeft(b"w2"))]
    here.say(b"w1", node.ExitRefused())
    assert here.heard(b"a") == [("granted", b"w1", [])]


def test_a_demand_that_waits_has_others_asked_for_their_share(here: Node) -> None:
    here.leases.demand(b"a", 1, POOL, CPU, 3, 0)
    here.heard(b"a")
    here.leases.demand(b"b", 1, POOL, CPU, 1, 0)
    here.time_passes()
    assert ("reclaim", 1) in here.heard(b"a"), "the one that holds a lease gives it up"
    assert not [one for one in here.heard(b"b") if one[0] == "reclaim" and one[1]]


def test_no_timer_runs_when_no_demand_waits(here: Node) -> None:
    here.leases.demand(b"a", 1, POOL, CPU, 1, 0)
    here.time_passes()
    here.time_passes()
    assert here.timers == []


def test_free_resources_are_reported_once_for_many_changes(here: Node) -> None:
    here.reports.clear()
    here.leases.demand(b"a", 1, POOL, CPU, 1, 0)
    here.leases.demand(b"a", 1, POOL, CPU, 0, 0)
    (number,) = here.table.leases
    assert here.reports == []
    here.time_passes()
    assert here.reports == [{"CPU": 0}]
    here.say(b"a", node.LeaseReturned(number))
    here.time_passes()
    assert here.reports == [{"CPU": 0}, {"CPU": UNIT}]


def test_idle_workers_beyond_the_cpus_are_asked_to_end(here: Node) -> None:
    here.leases.worker_ready(b"w2", POOL)
    here.time_passes()
    assert here.sent == [(b"w1", node.Exit())], "the one used last stays"
    here.say(b"w1", node.ExitRefused())
    here.leases.demand(b"a", 1, POOL, {}, 2, 0)
    assert {one[1] for one in here.heard(b"a")} == {b"w1", b"w2"}, "it serves again"


def test_a_blocked_worker_lends_its_cpu(here: Node) -> None:
    here.leases.demand(b"a", 1, POOL, CPU, 2, 0)
    here.heard(b"a")
    here.leases.worker_ready(b"w2", POOL)
    assert here.heard(b"a") == []
    here.say(b"w1", node.Blocked(True))
    assert here.heard(b"a") == [("granted", b"w2", [])]


def test_starts_that_fail_again_and_again_are_refused(here: Node) -> None:
    here.ends(b"w1")
    here.leases.demand(b"a", 1, POOL, CPU, 1, 0)
    for number in range(5):
        here.leases.workers_starting(POOL, 1)
        here.ends(b"s%d" % number, was_ready=False)
    assert here.heard(b"a") == [("refused", 1, True)]


def test_a_lessee_that_is_gone_hears_nothing(here: Node) -> None:
    here.leases.lessee_gone(b"b")
    here.leases.demand(b"b", 1, POOL, CPU, 1, 0)
    here.leases.refuse(Refuse(b"b", 1, "late", fatal=True))
    assert here.heard(b"b") == []
    here.leases.lessee_gone(b"b")


def test_what_this_node_could_never_hold_is_said() -> None:
    assert Node().leases.too_large(CPU) == ""
    assert (
        Node().leases.too_large({"CPU": 3 * UNIT}) == "it needs {CPU: 3}, and this node has {CPU: 1} in all"
    )


# ---------------------------------------------------------------------- a connected process


def connected(clients: Clients, process: bytes) -> list[Any]:
    client = Client(False)
    sent: list[Any] = []
    client.connection = cast(Any, SimpleNamespace(send=sent.append))
    client.id, client.address = process, f"/s/{process.decode()}"
    clients.add(client)
    return sent


def test_a_process_hears_of_its_leases_over_its_connection() -> None:
    here, clients = Node(), Clients()
    owner = connected(clients, b"owner")
    connected(clients, b"w1")
    here.leases.add_lessee(b"owner", ProcessLessee(b"owner", clients))
    here.leases.worker_ready(b"w1", POOL)
    here.leases.demand(b"owner", 4, POOL, CPU, 1, 0)
    (number,) = here.table.leases
    assert owner == [node.LeaseGranted(4, number, b"w1", "/s/w1", [])]
    owner.clear()
    here.leases.worker_ended(WorkerEnded(b"w1", POOL, "it crashed", True, b"owner", 7, out_of_memory=True))
    assert owner == [node.WorkerDied(number, b"w1", "it crashed", b"owner", 7, True)]
    owner.clear()
    here.leases.refuse(Refuse(b"owner", 4, "no", fatal=False, environment=True))
    assert owner == [node.DemandRefused(4, "no", False, True)]


def test_one_that_hung_up_is_sent_nothing() -> None:
    lessee = ProcessLessee(b"owner", Clients())
    lessee.reclaim(1)
    lessee.refused(Refuse(b"owner", 1, "no", fatal=True))
