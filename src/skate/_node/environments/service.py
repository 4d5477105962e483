"""Environments: which crew a demand is for, and its preparation before the lease table hears of it.

A crew is the workers of one job in one environment, as the lease table keeps them apart: the job's id
alone, or with the environment's key behind it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from skate._base import descriptors
from skate._base.clock import monotonic
from skate._environment.spec import NOTHING, Environment, Prepared, Request, decode, expand
from skate._node.environments.preparer import Preparation
from skate._node.environments.table import (
    AHEAD,
    Admit,
    Command,
    Environments,
    EnvironmentState,
    Prepare,
    Reject,
    Wanted,
)
from skate._node.leases.records import Refuse
from skate._node.leases.service import CONTROL

if TYPE_CHECKING:
    from skate._node.daemon import Daemon

_FOLDER = "environments"
#: Encoded environments that are remembered with their keys: some programs make one a task.
_DECODED = 1000
#: A preparation that takes longer is mentioned to those who wait (seconds).
_PATIENCE = 5.0


class _Crew(msgspec.Struct):
    job: bytes
    #: Of its environment; empty: the job's variables and paths are all.
    key: bytes
    environment: Environment


class EnvironmentHandlers:
    """The daemon's part about environments."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._table = Environments()
        self._crews: dict[bytes, _Crew] = {}
        #: By key; of equal ones that named last: how long it may take, and where its files are, may differ.
        self._environments: dict[bytes, Environment] = {}
        self._decoded: dict[bytes, tuple[bytes, Environment]] = {}  # key and environment
        self._running: dict[bytes, Preparation] = {}
        self._prepared: dict[bytes, Prepared] = {}
        #: For those who look: how long the last preparation took (seconds), and why it failed.
        self._took: dict[bytes, float] = {}
        self._errors: dict[bytes, str] = {}

    # ------------------------------------------------------------------ crews

    def crew(self, job: bytes, encoded: bytes) -> bytes:
        """Return the crew of a job in an environment."""
        key = self._key(encoded) if encoded else b""
        crew = job + key
        if crew not in self._crews and self._daemon.processes.has_job(job):
            self._crews[crew] = _Crew(job, key, self._environments[key] if key else NOTHING)
        return crew

    def _key(self, encoded: bytes) -> bytes:
        found = self._decoded.get(encoded)
        if found is None:
            if len(self._decoded) >= _DECODED:
                self._decoded.clear()
            environment = decode(encoded)
            found = self._decoded[encoded] = (environment.key(), environment)
        key, environment = found
        self._environments[key] = environment
        return key

    def job_of(self, crew: bytes) -> bytes:
        """Return the job of a crew; empty if it is over."""
        found = self._crews.get(crew)
        return found.job if found is not None else b""

    def config(self, crew: bytes, job_config: bytes) -> bytes:
        """Return how to start a worker of the crew: what the job says, and what is the environment's."""
        found = self._crews[crew]
        if not found.key:
            return job_config
        job: dict[str, Any] = msgspec.json.decode(job_config)
        job["runtime_env"] = found.environment.encode().decode()
        job["prepared"] = msgspec.to_builtins(self._prepared.get(found.key, Prepared()))
        return msgspec.json.encode(job)

    def end_job(self, job: bytes) -> None:
        """Nothing will work for the job any more."""
        for crew in [crew for crew, one in self._crews.items() if one.job == job]:
            del self._crews[crew]
        living = {one.key for one in self._crews.values()}
        for key, environment in list(self._environments.items()):
            if key not in living and not environment.needs_preparation:  # nothing of it is kept on disk
                del self._environments[key]

    # ------------------------------------------------------------------ demands

    def demand(
        self,
        owner: bytes,
        shape: int,
        crew: bytes,
        resources: Mapping[str, int],
        count: int,
        depth: int,
        unfit: str = "",
    ) -> None:
        """Pass a demand on to the lease table, when its environment is ready.

        ``unfit``: why this node cannot serve it: nothing is prepared for it.
        """
        wanted = Wanted(owner, shape, crew, resources, count, depth, unfit)
        found = self._crews.get(crew)
        if unfit or found is None or not found.environment.needs_preparation:
            self._admit(wanted)
        else:
            self.run(self._table.wanted(found.key, wanted))

    def ahead(self, owner: bytes, crew: bytes, count: int) -> None:
        """A job begins: start so many workers for it, or at least prepare its environment if it says so."""
        environment = self._crews[crew].environment
        if environment.eager or not environment.needs_preparation:
            self.demand(owner, AHEAD, crew, {}, count, 0)

    def owner_gone(self, owner: bytes) -> None:
        """A driver or worker ended."""
        self.run(self._table.owner_gone(owner))

    def withdrawn(self, owner: bytes, shape: int) -> None:
        """A demand is over, wherever it was."""
        self.run(self._table.withdrawn(owner, shape))

    def hook_failed(self, crew: bytes, reason: str) -> None:
        """A worker's setup hook raised: those who wait for workers of the crew are refused."""
        self._daemon.event("ERROR", "RUNTIME_ENV", f"a setup hook failed: {reason}")
        self._daemon.lease_handlers.run(self._daemon.leases.refuse_crew(crew, reason))

    # ------------------------------------------------------------------ effects

    def run(self, commands: Sequence[Command]) -> None:
        """Carry out what the table decided."""
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
        daemon = self._daemon
        if wanted.shape == AHEAD:
            daemon.processes.start_workers(wanted.crew, wanted.leases)
        else:
            commands = daemon.leases.demand(
                wanted.owner,
                wanted.shape,
                wanted.crew,
                wanted.resources,
                wanted.leases,
                wanted.depth,
                wanted.unfit,
            )
            daemon.lease_handlers.run(commands)

    def _reject(self, command: Reject) -> None:
        wanted = command.wanted
        if wanted.shape != AHEAD:
            refuse = Refuse(wanted.owner, wanted.shape, command.reason, fatal=True, environment=True)
            self._daemon.lease_handlers.run([refuse])

    def _prepare(self, key: bytes) -> None:
        daemon = self._daemon
        environment = self._environments[key]
        folder = os.path.join(daemon.settings.session_dir, _FOLDER)
        path = os.path.join(folder, key.hex())
        # Any job that wants it will do: what it makes is the same.
        crew = next(crew for crew in self._crews.values() if crew.key == key)
        job = daemon.processes.job_settings(crew.job)
        variables: dict[str, str] = job["environment"]
        variables.update(expand(environment.env_vars, variables))
        request = Request(environment, folder, path + ".json", variables, job["cwd"])

        begun = monotonic()

        def ended(reason: str) -> None:
            if self._running.get(key) is running:
                del self._running[key]
                self._took[key] = monotonic() - begun
                self._ended(key, request.result, reason)

        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with open(path + ".request", "wb") as file:
                file.write(msgspec.json.encode(request))
            log = self._log(key)
            running = Preparation(
                daemon.reactor, path + ".request", log, variables, environment.timeout_s, ended
            )
        except OSError as error:
            self._ended(
                key, request.result, f"its preparation could not be started: {descriptors.explained(error)}"
            )
        else:
            self._running[key] = running
            daemon.reactor.call_later(_PATIENCE, lambda: self._tell(key, running, log))

    def _log(self, key: bytes) -> str:
        return os.path.join(self._daemon.settings.session_dir, "logs", f"environment-{key.hex()}.log")

    def _tell(self, key: bytes, running: Preparation, log: str) -> None:
        """Tell the drivers that wait why nothing happens."""
        if self._running.get(key) is not running:
            return
        shown = ", ".join(sorted(self._environments[key].shown)) or "runtime_env"
        text = f"still preparing an environment ({shown}) before what wants it can start; see {log}\n"
        for job in {crew.job for crew in self._crews.values() if crew.key == key}:
            self._daemon.processes.tell_driver(job, "runtime_env", running.pid, text)

    def _ended(self, key: bytes, result: str, reason: str) -> None:
        if not reason:
            try:
                with open(result, "rb") as file:
                    self._prepared[key] = msgspec.json.decode(file.read(), type=Prepared)
            except (OSError, msgspec.MsgspecError) as error:
                reason = f"what its preparation made cannot be read: {error}"
        if reason:
            self._errors[key] = reason
            self._daemon.event("ERROR", "RUNTIME_ENV", f"the environment {key.hex()} failed: {reason}")
            self.run(self._table.failed(key, reason))
        else:
            self._errors.pop(key, None)
            self.run(self._table.prepared(key))

    def rows(self) -> list[dict[str, Any]]:
        """Return every environment that was named in this session, for those who look."""
        users = Counter(self._crews[worker.crew].key for worker in self._daemon.workers
                        if worker.crew in self._crews)  # fmt: skip
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
                    self._daemon.actors.placed(one.shape).hex()
                    for one in self._table.waiting(key)
                    if one.owner == CONTROL
                ],
            }
            for key, environment in self._environments.items()
        ]

    def close(self) -> None:
        """The session ends."""
        for running in self._running.values():
            running.close()
        self._running.clear()
