"""Runtime environments: prepares what a demand needs before the demand reaches the lease table.

Workers of one job in one environment form a worker pool. Its key, by which the lease table keeps them apart,
is the job's id, followed by the environment's key if there is an environment.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from skate._base import clock, descriptors
from skate._environment.spec import NOTHING, Environment, Prepared, Request, decode, expand
from skate._node.context import NodeContext
from skate._node.environments.preparer import Preparation
from skate._node.environments.table import (
    AHEAD,
    Admit,
    Command,
    EnvironmentState,
    EnvironmentTable,
    Prepare,
    Reject,
    Wanted,
)
from skate._node.events import WorkerEnded
from skate._node.jobs import Jobs
from skate._node.leases.accounts import NO_GROUP
from skate._node.leases.records import Refuse
from skate._node.leases.service import LeaseService
from skate._scheduling import requirements
from skate._transport.connection import Connection, Handler
from skate._wire import node
from skate._wire.codec import GARBAGE
from skate._wire.handshake import WrongMessage

_FOLDER = "environments"
#: Encoded environments that are remembered with their keys: some programs make a new one for each task.
_MAX_DECODED = 1000
#: A preparation that takes longer is reported to the drivers that wait.
_SLOW_PREPARATION_S = 5.0


class _Pool(msgspec.Struct):
    """The workers of a job in an environment."""

    job: bytes
    #: Of its environment; empty: the job's variables and paths are all.
    key: bytes
    environment: Environment


class EnvironmentService:
    """The environments of this node, and the demands that wait for them."""

    def __init__(
        self,
        context: NodeContext,
        jobs: Jobs,
        leases: LeaseService,
        *,
        prepare: Callable[..., Preparation],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._leases = leases
        self._start_preparation = prepare
        self._table = EnvironmentTable()
        self._pools: dict[bytes, _Pool] = {}
        #: By key; of equal ones the one named last: their timeouts and the places of their files may differ.
        self._environments: dict[bytes, Environment] = {}
        self._decoded: dict[bytes, tuple[bytes, Environment]] = {}  # key and environment
        self._running: dict[bytes, Preparation] = {}
        self._prepared: dict[bytes, Prepared] = {}
        #: For the state API: how long the last preparation took (seconds), and why it failed.
        self._took: dict[bytes, float] = {}
        self._errors: dict[bytes, str] = {}

    def handlers(self) -> dict[type, Handler]:
        """Return the handlers of this part's messages."""
        return {node.LeaseDemand: self._lease_demand}

    # ------------------------------------------------------------------ worker pools

    def pool(self, job: bytes, encoded: bytes) -> bytes:
        """Return the worker pool key of a job in an environment."""
        key = self._key(encoded) if encoded else b""
        pool = job + key
        if pool not in self._pools and self._jobs.has(job):
            self._pools[pool] = _Pool(job, key, self._environments[key] if key else NOTHING)
        return pool

    def _key(self, encoded: bytes) -> bytes:
        found = self._decoded.get(encoded)
        if found is None:
            if len(self._decoded) >= _MAX_DECODED:
                self._decoded.clear()
            environment = decode(encoded)
            found = self._decoded[encoded] = (environment.key(), environment)
        key, environment = found
        self._environments[key] = environment
        return key

    def worker_config(self, pool: bytes) -> tuple[bytes, bytes] | None:
        """Return the job and the encoded configuration of a pool's workers; None: the job is over."""
        found = self._pools.get(pool)
        config = self._jobs.config(found.job) if found is not None else None
        if found is None or config is None:
            return None
        if found.key:
            job: dict[str, Any] = msgspec.json.decode(config)
            job["runtime_env"] = found.environment.encode().decode()
            job["prepared"] = msgspec.to_builtins(self._prepared.get(found.key, Prepared()))
            config = msgspec.json.encode(job)
        return found.job, config

    def job_ended(self, job: bytes, reason: str) -> None:
        """Forget the worker pools of a job that is over."""
        for pool in [pool for pool, one in self._pools.items() if one.job == job]:
            del self._pools[pool]
        living = {one.key for one in self._pools.values()}
        for key, environment in list(self._environments.items()):
            if key not in living and not environment.needs_preparation:  # nothing of it is kept on disk
                del self._environments[key]

    # ------------------------------------------------------------------ demands

    def _lease_demand(self, connection: Connection, message: node.LeaseDemand) -> None:
        client, leases = connection.peer, self._leases
        reason, infeasible, place = "", None, NO_GROUP
        try:
            pool = self.pool(client.job, message.environment) if message.environment else client.pool
            if message.requirement:
                infeasible = leases.infeasible(message.requirement, message.resources)
                place = requirements.group_of(message.requirement)[:2]
        except GARBAGE as error:
            raise WrongMessage(f"with garbage for its environment or requirement: {error}") from None
        if infeasible is not None:
            if infeasible.fatal and message.count > 0:
                leases.refuse(Refuse(client.id, message.shape, infeasible.reason, fatal=True))
                return
            reason = infeasible.reason
        count, depth = message.count, message.depth
        self.demand(
            Wanted(client.id, message.shape, pool, message.resources, count, depth, reason, place=place)
        )

    def demand(self, wanted: Wanted) -> None:
        """Pass a demand on to the lease table as soon as its environment is ready.

        If this node cannot serve it, nothing is prepared for it.
        """
        found = self._pools.get(wanted.pool)
        if wanted.infeasible or found is None or not found.environment.needs_preparation:
            self._admit(wanted)
        else:
            self._run(self._table.wanted(found.key, wanted))

    def start_ahead(self, driver: bytes, pool: bytes, count: int) -> None:
        """Start workers of a job that begins, or prepare its environment if that is to be done early."""
        environment = self._pools[pool].environment
        if environment.eager or not environment.needs_preparation:
            self.demand(Wanted(driver, AHEAD, pool, {}, count, 0))

    def lessee_gone(self, lessee: bytes) -> None:
        """Drop the demands of a process that ended."""
        self._run(self._table.owner_gone(lessee))

    def worker_ended(self, ended: WorkerEnded) -> None:
        """Drop the demands of a worker that ended."""
        if ended.was_ready:
            self.lessee_gone(ended.worker)

    def withdraw(self, lessee: bytes, shape: int) -> None:
        """Drop one demand, wherever it waits."""
        self._run(self._table.withdrawn(lessee, shape))
        self._leases.demand(lessee, shape, b"", {}, 0, 0)

    def hook_failed(self, pool: bytes, reason: str) -> None:
        """Refuse the demands for workers of a pool, because the setup hook of one raised."""
        self._context.event("ERROR", "RUNTIME_ENV", f"a setup hook failed: {reason}")
        self._leases.refuse_pool(pool, reason)

    # ------------------------------------------------------------------ effects

    def _run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Admit):
                self._admit(command.wanted)
            elif isinstance(command, Prepare):
                self._prepare(command.key)
            elif isinstance(command, Reject):
                self._reject(command)
            else:
                self._running.pop(command.key).stop("nobody waits for it any more")

    def _admit(self, wanted: Wanted) -> None:
        lessee, shape, pool, resources, count, depth, infeasible, dedicated, place = wanted
        if shape == AHEAD:
            self._leases.start_workers(pool, count)
        else:
            self._leases.demand(
                lessee, shape, pool, resources, count, depth, infeasible, dedicated=dedicated, place=place
            )

    def _reject(self, command: Reject) -> None:
        wanted = command.wanted
        if wanted.shape != AHEAD:
            self._leases.refuse(
                Refuse(wanted.owner, wanted.shape, command.reason, fatal=True, environment=True)
            )

    def _prepare(self, key: bytes) -> None:
        context = self._context
        environment = self._environments[key]
        folder = os.path.join(context.settings.session_dir, _FOLDER)
        path = os.path.join(folder, key.hex())
        # Any job that wants it will do: the result is the same.
        pool = next(pool for pool in self._pools.values() if pool.key == key)
        job = self._jobs.decoded_config(pool.job)
        variables: dict[str, str] = job["environment"]
        variables.update(expand(environment.env_vars, variables))
        request = Request(environment, folder, path + ".json", variables, job["cwd"])

        begun = clock.monotonic()

        def ended(reason: str) -> None:
            if self._running.get(key) is running:
                del self._running[key]
                self._took[key] = clock.monotonic() - begun
                self._ended(key, request.result, reason)

        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with open(path + ".request", "wb") as file:
                file.write(msgspec.json.encode(request))
            log = self._log(key)
            running = self._start_preparation(
                context.reactor, path + ".request", log, variables, environment.timeout_s, ended
            )
        except OSError as error:
            self._ended(
                key, request.result, f"its preparation could not be started: {descriptors.explained(error)}"
            )
        else:
            self._running[key] = running
            context.reactor.call_later(_SLOW_PREPARATION_S, lambda: self._report_slow(key, running, log))

    def _log(self, key: bytes) -> str:
        return os.path.join(self._context.settings.session_dir, "logs", f"environment-{key.hex()}.log")

    def _report_slow(self, key: bytes, running: Preparation, log: str) -> None:
        """Tell the drivers that wait why nothing happens."""
        if self._running.get(key) is not running:
            return
        shown = ", ".join(sorted(self._environments[key].shown)) or "runtime_env"
        text = f"still preparing an environment ({shown}) before what wants it can start; see {log}\n"
        for job in dict.fromkeys(pool.job for pool in self._pools.values() if pool.key == key):
            self._jobs.forward(job, "runtime_env", running.pid, True, text)

    def _ended(self, key: bytes, result: str, reason: str) -> None:
        if not reason:
            try:
                with open(result, "rb") as file:
                    self._prepared[key] = msgspec.json.decode(file.read(), type=Prepared)
            except (OSError, msgspec.MsgspecError) as error:
                reason = f"what its preparation made cannot be read: {error}"
        if reason:
            self._errors[key] = reason
            self._context.event("ERROR", "RUNTIME_ENV", f"the environment {key.hex()} failed: {reason}")
            self._run(self._table.failed(key, reason))
        else:
            self._errors.pop(key, None)
            self._run(self._table.prepared(key))

    def rows(
        self, workers: Counter[bytes], actor_of: Callable[[bytes, int], bytes | None]
    ) -> list[dict[str, Any]]:
        """Return every environment that was named in this session, for the state API.

        ``workers``: their number, by worker pool key. ``actor_of``: the actor that a demand is for, if any.
        """
        users: Counter[bytes] = Counter()
        for pool, count in workers.items():
            if pool in self._pools:
                users[self._pools[pool].key] += count
        return [
            {
                "key": key.hex(),
                "runtime_env": environment.shown,
                "state": (
                    self._table.state(key) if environment.needs_preparation else EnvironmentState.READY
                ).value,
                "took": self._took.get(key),
                "workers": users[key],
                "error": self._errors.get(key),
                "log": self._log(key),
                "actors": [
                    actor.hex()
                    for one in self._table.waiting(key)
                    if (actor := actor_of(one.owner, one.shape)) is not None
                ],
            }
            for key, environment in self._environments.items()
        ]

    def close(self) -> None:
        """End the preparations that run: the session ends."""
        for running in self._running.values():
            running.close()
        self._running.clear()
