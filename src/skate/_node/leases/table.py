"""Decides which lessee gets which worker: demands, leases, resources of one node. Decisions only.

Owner: the daemon's loop. Owners state *how many leases in all* they want of a resource shape; the
node grants while resources and workers last. A lease lives through::

    RESERVED --worker ready--> GRANTED <--blocked/unblocked--> BLOCKED (its CPUs lent)
        |  resources taken,        |                              |
        |  no worker yet           '---returned, worker lost------'--> gone
        '--demand fell, owner gone--> gone

A worker that is *ending* (it said that it leaves, was killed, or closed its connection) is granted no more
from that event on, though its process may last: a lease that its owner returns meanwhile is gone, the devices
of that lease are free when the process is gone, because its memory is there until then.

Order: deeper callers first (a nested task's caller sits in ``get``: serving it first ends things,
serving it last starts ever more); among equals the owner with the fewest leases; then first come. Of a
placement group, leases take the resources of its bundles (``groups``), else those of the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skate._base.resources import Resources
from skate._node.leases import sharing
from skate._node.leases.accounts import NO_GROUP, Account, Place
from skate._node.leases.groups import Group, Groups, Reserved
from skate._node.leases.instances import Devices
from skate._node.leases.records import (
    AskForGroup,
    Command,
    Demand,
    EndWorker,
    Grant,
    Lease,
    LeaseState,
    OwnerLeft,
    Refuse,
    StartWorkers,
)

#: Leases of shapes that take no resources, not counting blocked ones: more would only compete.
ZERO_SHAPE_LIMIT = 100
#: After that many failed starts of workers in a row, the demands that wait for one are refused.
FAILED_STARTS_LIMIT = 5


class LeaseTable:
    """The lease table of one node."""

    def __init__(self, total: Mapping[str, int], max_workers: int, gpus: Sequence[str] = ()) -> None:
        #: The resources of which placement groups and leases have theirs.
        self.node = Account(total, Devices(gpus))
        self.groups = Groups(self.node)
        self.leases: dict[int, Lease] = {}
        self._by_worker: dict[bytes, Lease] = {}
        self._demands: dict[tuple[bytes, int], Demand] = {}
        self._idle: dict[bytes, list[bytes]] = {}  # worker pool key to its idle workers, newest last
        self._starting: dict[bytes, int] = {}
        self._workers: dict[bytes, bytes] = {}  # every live worker and its worker pool key
        self._owning_objects: set[bytes] = set()  # workers that own objects: not for dedicated leases
        self._leaving: set[bytes] = set()  # taken as idle: about to end, or to be put back
        self._ending: set[bytes] = set()  # certain to end
        #: Of ending workers: the devices that their last leases had, how much of them, and of which account.
        self._occupied: dict[bytes, tuple[list[int], int, Account]] = {}
        self._max_workers = max_workers
        #: Starts in a row that failed.
        self._failed_starts: dict[bytes, int] = {}
        self._last_lease = 0
        self._last_order = 0

    @property
    def total(self) -> Resources:
        """The node's resources."""
        return self.node.total

    @property
    def free(self) -> Resources:
        """The part that neither leases nor placement groups have."""
        return self.node.free

    # ------------------------------------------------------------------ events from owners

    def demand(
        self,
        owner: bytes,
        shape: int,
        pool: bytes,
        resources: Mapping[str, int],
        count: int,
        depth: int,
        infeasible: str = "",
        *,
        dedicated: bool = False,
        place: Place = NO_GROUP,
    ) -> list[Command]:
        """Take a demand: the owner wants ``count`` leases of the shape in all. A repeat changes nothing.

        ``infeasible``: why none can be had here, whatever is free: it waits. ``dedicated``: each lease keeps
        its worker until that ends. ``place``: the bundle whose resources they take.
        """
        key = (owner, shape)
        demand = self._demands.get(key)
        if demand is None:
            if count <= 0:
                return []
            self._last_order += 1
            demand = Demand(owner, shape, pool, dict(resources), self._last_order, dedicated, place)
            self._demands[key] = demand
        demand.count = count
        demand.depth = depth
        demand.infeasible = infeasible
        if count <= demand.held:
            self._drop_surplus(demand)
        if count <= 0 and demand.held == 0:
            self._demands.pop(key, None)
        return self._schedule()

    def _drop_surplus(self, demand: Demand) -> None:
        """End the reservations that are no longer wanted."""
        for lease in [x for x in self.leases.values() if x.state is LeaseState.RESERVED]:
            if demand.held <= demand.count:
                break
            if (lease.owner, lease.shape) == (demand.owner, demand.shape):
                self._end(lease)

    def returned(self, lease_id: int) -> list[Command]:
        """End a lease that its owner needs no more; its worker is idle now. Unknown ids are late repeats."""
        lease = self.leases.get(lease_id)
        if lease is None:
            return []
        self._end(lease)
        if not lease.retiring:
            # Any lease will do for the one that was asked back.
            for other in self.leases.values():
                if other.owner == lease.owner and other.retiring:
                    other.retiring = False
                    break
        demand = self._demands.get((lease.owner, lease.shape))
        if demand is not None:
            # The owner that gives one up stands behind the others now, or it would get it back at once.
            self._last_order += 1
            demand.order = self._last_order
        if lease.worker and lease.worker not in self._ending:
            idle = self._idle[lease.pool] = self._idle.pop(lease.pool, [])
            idle.append(lease.worker)
        return self._schedule()

    def owner_gone(self, owner: bytes) -> list[Command]:
        """End the leases and demands of an owner that ended."""
        for key in [key for key in self._demands if key[0] == owner]:
            self._demands[key].count = 0
            if self._demands[key].held == 0:
                del self._demands[key]
        commands: list[Command] = []
        for lease in [x for x in self.leases.values() if x.owner == owner]:
            self._end(lease)
            if lease.worker:
                self._leaving.add(lease.worker)
                commands.append(OwnerLeft(lease.worker, owner))
        return commands + self._schedule()

    # ------------------------------------------------------------------ events from workers

    def starting(self, pool: bytes, count: int) -> None:
        """Expect that many workers: they are being started, for demands or ahead of them."""
        self._starting[pool] = self._starting.get(pool, 0) + count

    def _started(self, pool: bytes) -> None:
        """Expect one worker less: its start succeeded or failed."""
        left = self._starting.pop(pool, 0) - 1
        if left > 0:
            self._starting[pool] = left

    def worker_ready(self, worker: bytes, pool: bytes) -> list[Command]:
        """Grant a worker process that said hello."""
        self._started(pool)
        self._failed_starts.pop(pool, None)
        self._workers[worker] = pool
        if worker not in self._ending:
            self._idle.setdefault(pool, []).append(worker)
        return self._schedule()

    def worker_ending(self, worker: bytes) -> None:
        """Grant a worker no more: it is certain to end. ``worker_lost`` follows.

        Its calls go on: its lease is its owner's until the process is gone, or the owner returns it.
        """
        self._ending.add(worker)
        self._leaving.discard(worker)
        idle = self._idle.get(self._workers.get(worker, b""), [])
        if worker in idle:
            idle.remove(worker)

    def worker_not_started(self, pool: bytes, cause: str, *, counts: bool = True) -> list[Command]:
        """Expect one worker less: its process ended before it said hello.

        After a few in a row the demands that wait for one are refused: more starts would fail, too. Starts
        that failed together for one cause count once (``counts``).
        """
        self._started(pool)
        if not counts:
            return self._schedule()
        failed = self._failed_starts[pool] = self._failed_starts.get(pool, 0) + 1
        if failed < FAILED_STARTS_LIMIT:
            return self._schedule()
        self._failed_starts.pop(pool)
        reason = f"{failed} worker processes in a row ended before they were ready; the last: {cause}"
        return self._refuse_reserved(pool, reason) + self._schedule()

    def worker_lost(self, worker: bytes) -> tuple[Lease | None, list[Command]]:
        """Forget a worker that ended. Return the lease that it served, and what to do."""
        pool = self._workers.pop(worker, b"")
        self._leaving.discard(worker)
        self._owning_objects.discard(worker)
        idle = self._idle.get(pool, [])
        if worker in idle:
            idle.remove(worker)
        lease = self._by_worker.get(worker)
        self._ending.discard(worker)
        if lease is not None:
            self._end(lease)
        occupied = self._occupied.pop(worker, None)
        if occupied is not None:
            devices, units, account = occupied
            account.give_back({"GPU": units}, devices)
        return lease, self._schedule()

    def blocked(self, worker: bytes, blocked: bool) -> list[Command]:
        """Lend the CPUs of a worker whose task waits in get, or take them back when it no longer waits.

        Taken back at once, even if that means more in use than there is: it runs already.
        """
        lease = self._by_worker.get(worker)
        if lease is None or blocked == (lease.state is LeaseState.BLOCKED):
            return []
        cpus = {"CPU": lease.resources.get("CPU", 0)}
        if blocked:
            lease.state = LeaseState.BLOCKED
            lease.account.give_back(cpus)
        else:
            lease.state = LeaseState.GRANTED
            lease.account.take_cpus_back(cpus)
        return self._schedule()

    def take_idle(self, keep: int) -> list[bytes]:
        """Remove and return idle workers beyond ``keep`` in all, oldest first: they may end."""
        surplus: list[bytes] = []
        for pool in reversed(list(self._idle)):  # those used last come last
            idle = self._idle[pool]
            count = max(0, len(idle) - keep)
            surplus += idle[:count]
            del idle[:count]
            keep -= len(idle)
            if not idle:
                del self._idle[pool]
        self._leaving.update(surplus)
        return surplus

    def put_back(self, worker: bytes) -> list[Command]:
        """Grant a worker again that was to end: it owns objects, and runs nothing."""
        if worker not in self._leaving:
            return []
        self._leaving.discard(worker)
        pool = self._workers.get(worker)
        if pool is None:
            return []
        self._idle.setdefault(pool, []).insert(0, worker)
        return self._schedule()

    # ------------------------------------------------------------------ deciding

    def _end(self, lease: Lease) -> None:
        del self.leases[lease.id]
        if sharing.is_of_tasks(lease, self.node):
            self.groups.lease_ended()
        resources = dict(lease.resources)
        if lease.worker:
            self._by_worker.pop(lease.worker, None)
        if lease.worker in self._ending and resources.get("GPU"):
            self._occupied[lease.worker] = lease.gpus, resources.pop("GPU"), lease.account
        if lease.state is LeaseState.BLOCKED:  # its CPUs are back already
            resources.pop("CPU", None)
        lease.account.give_back(resources, lease.gpus)  # these, if there is GPU among the resources
        demand = self._demands.get((lease.owner, lease.shape))
        if demand is not None:
            demand.held -= 1
            if demand.held == 0 and demand.count <= 0:
                del self._demands[demand.owner, demand.shape]

    def _schedule(self) -> list[Command]:
        """Reserve resources for what is wanted most, give reservations their workers."""
        commands: list[Command] = [*self.groups.serve(self._returning)]
        wanting = [d for d in self._demands.values() if d.held < d.count]
        if wanting:
            held: dict[bytes, int] = {}
            for lease in self.leases.values():
                held[lease.owner] = held.get(lease.owner, 0) + 1
            while wanting:
                demand = min(wanting, key=lambda d: (-d.depth, held.get(d.owner, 0), d.order))
                account = self._account_for(demand, commands)
                if account is None:
                    wanting.remove(demand)
                    continue
                self._reserve(demand, account)
                held[demand.owner] = held.get(demand.owner, 0) + 1
                if demand.held >= demand.count:
                    wanting.remove(demand)
        self._give_workers(commands)
        return commands

    def _account_for(self, demand: Demand, commands: list[Command]) -> Account | None:
        """Return the account from which a lease of the demand may take its resources; None: none has room."""
        if demand.infeasible:
            if not demand.refused:
                demand.refused = True
                commands.append(Refuse(demand.owner, demand.shape, demand.infeasible, fatal=False))
            return None
        if not demand.resources and not demand.dedicated:
            running = sum(
                1 for x in self.leases.values() if not x.resources and x.state is not LeaseState.BLOCKED
            )
            if running >= ZERO_SHAPE_LIMIT:
                return None
        if demand.place != NO_GROUP:
            return self._bundle_for(demand, commands)
        may_wait = not demand.dedicated and demand.depth <= 0
        if may_wait and self.groups.holds_back(demand.order, demand.resources):
            return None
        lack = self.node.lack(demand.resources)
        if lack and not demand.refused:
            demand.refused = True
            commands.append(Refuse(demand.owner, demand.shape, lack, fatal=False))
        if self.node.has_room(demand.resources):
            return self.node
        return None  # a GPU may be free, but in pieces

    def _bundle_for(self, demand: Demand, commands: list[Command]) -> Account | None:
        """Return the account of a bundle that has room for the demand; end the demand if none ever has."""
        unusable = self.groups.unusable(demand.place, demand.resources)
        if unusable is not None:
            self._give_up(demand)
            commands.append(
                Refuse(demand.owner, demand.shape, unusable.reason, fatal=True, removed=unusable.removed)
            )
            return None
        if self.groups.missing(demand.place[0]):
            commands.append(AskForGroup(demand.place[0]))
        return self.groups.account(demand.place, demand.resources)

    def _give_up(self, demand: Demand) -> None:
        """Serve a demand no further: it keeps the leases that it has."""
        demand.count = demand.held
        if not demand.held:
            self._demands.pop((demand.owner, demand.shape), None)

    def _returning(self) -> list[tuple[Resources, list[int]]]:
        """Return what leases of tasks have of the node; nothing if processes wait in ``get``."""
        ending = [({"GPU": units}, devices) for devices, units, account in self._occupied.values()
                  if account.open is self.node]  # fmt: skip
        return sharing.returning(self.leases.values(), self.node) + ending

    def _reserve(self, demand: Demand, account: Account) -> None:
        self._last_lease += 1
        lease = Lease(self._last_lease, demand, account)
        self.leases[lease.id] = lease
        lease.gpus = account.take(lease.resources)
        demand.held += 1

    # ------------------------------------------------------------------ placement groups

    def reserve_group(self, group: Group) -> list[Command]:
        """Reserve the bundles of a placement group, as soon as they fit. A repeat changes nothing.

        A higher attempt replaces what an earlier one holds.
        """
        known = self.groups.get(group.id)
        if known is not None and known.attempt >= group.attempt:
            return [Reserved(known.id, known.attempt)] if known.accounts else []
        commands = self._clear(group.id, "its bundles were placed anew", removed=False)
        self._last_order += 1
        group.order = self._last_order
        self.groups.wanted(group)
        return commands + self._schedule()

    def remove_group(self, group: bytes, reason: str, *, for_good: bool) -> list[Command]:
        """Give up a placement group: its workers end, and its demands are refused if it is gone for good."""
        if for_good:
            self.groups.removed(group, reason)
        return self._clear(group, reason, removed=for_good) + self._schedule()

    def _clear(self, group: bytes, reason: str, *, removed: bool) -> list[Command]:
        """End what uses the bundles of a group."""
        commands: list[Command] = []
        if removed:
            for demand in [one for one in self._demands.values() if one.place[0] == group]:
                self._give_up(demand)
                commands.append(Refuse(demand.owner, demand.shape, reason, fatal=True, removed=True))
        for lease in [one for one in self.leases.values() if one.account.place[0] == group]:
            if lease.worker:
                commands.append(EndWorker(lease.worker, reason))
            else:
                self._end(lease)
        self.groups.dropped(group)
        return commands

    def _give_workers(self, commands: list[Command]) -> None:
        short: dict[bytes, int] = {}
        spares: dict[bytes, None] = {}
        for lease in list(self.leases.values()):
            if lease.state is not LeaseState.RESERVED:
                continue
            idle = self._idle.get(lease.pool)
            worker = self._take_worker(lease, idle) if idle else None
            if worker is not None:
                lease.worker = worker
                lease.state = LeaseState.GRANTED
                self._by_worker[lease.worker] = lease
                commands.append(Grant(lease))
                if lease.dedicated and not idle and not self._starting.get(lease.pool):
                    # It takes its worker for life: have one ready for the next.
                    spares[lease.pool] = None
            else:
                short[lease.pool] = short.get(lease.pool, 0) + 1
        room = self._max_workers - len(self._workers) - sum(self._starting.values())
        for pool, count in short.items():
            count -= self._starting.get(pool, 0)
            if count > 0 and room <= 0:
                commands += self._refuse_for_room(pool)
            elif count > 0:
                commands.append(StartWorkers(pool, min(count, room)))
                room -= min(count, room)
        for pool in spares:
            if pool not in short and room > 0:
                commands.append(StartWorkers(pool, 1))
                room -= 1

    def _take_worker(self, lease: Lease, idle: list[bytes]) -> bytes | None:
        """Take the newest idle worker: its caches are warm. For a dedicated lease, one that owns nothing."""
        for index in range(len(idle) - 1, -1, -1):
            if not lease.dedicated or idle[index] not in self._owning_objects:
                return idle.pop(index)
        return None

    def refused_dedication(self, worker: bytes) -> None:
        """Grant a worker no dedicated lease: it owns objects, which the lease's end would take along."""
        self._owning_objects.add(worker)

    def _refuse_for_room(self, pool: bytes) -> list[Command]:
        """Refuse the demands of a pool if every worker waits for yet another one, and there is no room."""
        running = any(x.state is LeaseState.GRANTED for x in self.leases.values())
        if running or self._leaving or self._ending or self._starting.get(pool):
            return []  # room may come
        reason = (
            f"all {len(self._workers)} worker processes of this node (the limit: SKATE_MAX_WORKERS) "
            "wait in get() for tasks that need yet another worker; nest tasks less deeply, or wait "
            "for their results in the driver"
        )
        return self._refuse_reserved(pool, reason)

    def _refuse_reserved(self, pool: bytes, reason: str) -> list[Command]:
        """End every reservation of the pool that has no worker, and refuse the demands behind them."""
        refused: list[Command] = []
        for lease in [x for x in self.leases.values() if x.state is LeaseState.RESERVED and x.pool == pool]:
            self._end(lease)
            demand = self._demands.get((lease.owner, lease.shape))
            if demand is not None:
                self._give_up(demand)
            refused.append(Refuse(lease.owner, lease.shape, reason, fatal=True))
        return refused

    def refuse_pool(self, pool: bytes, reason: str) -> list[Command]:
        """Refuse the demands that wait for workers of this pool: they cannot be had."""
        refused: list[Command] = []
        for lease in [x for x in self.leases.values() if x.state is LeaseState.RESERVED and x.pool == pool]:
            self._end(lease)
        for demand in [d for d in self._demands.values() if d.pool == pool and d.held < d.count]:
            self._give_up(demand)
            refused.append(Refuse(demand.owner, demand.shape, reason, fatal=True, environment=True))
        return refused + self._schedule()

    def unmet(self) -> list[Command]:
        """Ask owners for leases, a time slice after a demand or a placement group was left waiting."""
        found = sharing.reclaims(self.leases.values(), self._demands.values(), self.groups, self.node)
        return [*found, *(self._schedule() if self.groups.time_passes() else ())]

    @property
    def waiting(self) -> bool:
        """Whether anything waits for leases to end: a demand that could be served, or a placement group."""
        return sharing.is_waiting(self.leases.values(), self._demands.values(), self.groups, self.node)

    @property
    def worker_count(self) -> int:
        """The number of live worker processes."""
        return len(self._workers)

    def lease_of(self, worker: bytes) -> Lease | None:
        """Return the lease that a worker serves."""
        return self._by_worker.get(worker)
