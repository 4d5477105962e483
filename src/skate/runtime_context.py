"""Gives a task, actor or driver the facts about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skate._base import ids
from skate._base.process import SCRIPT_MODE, WORKER_MODE
from skate._environment.spec import decode
from skate._starting import connected_engine
from skate.engine import engine

if TYPE_CHECKING:
    from skate.engine.interface import Engine
    from skate.runtime_env import RuntimeEnv


class ThisProcess:
    """A driver or worker: what ``get_runtime_context().worker`` is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def mode(self) -> int:
        """SCRIPT_MODE (0) in a driver, WORKER_MODE (1) in a task or actor."""
        return WORKER_MODE if self._engine.running().is_inside else SCRIPT_MODE

    @property
    def connected(self) -> bool:
        """Whether this process is connected to its session."""
        return engine() is self._engine

    @property
    def current_job_id(self) -> ids.JobID:
        """The job that this process works for."""
        return ids.JobID(self._engine.identity().job_id)

    @property
    def current_node_id(self) -> ids.NodeID:
        """The node that it is on."""
        return ids.NodeID(self._engine.identity().node_id)

    @property
    def worker_id(self) -> bytes:
        """Its id."""
        return self._engine.running().process_id

    @property
    def namespace(self) -> str:
        """The namespace of this job's named actors."""
        return self._engine.identity().namespace


class RuntimeContext:
    """Facts about the running driver, task or actor. Get it from ``get_runtime_context()``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_job_id(self) -> str:
        """Return the job's id in hex."""
        return self._engine.identity().job_id.hex()

    def get_node_id(self) -> str:
        """Return the node's id in hex."""
        return self._engine.identity().node_id.hex()

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of this node: those it was started with, and the runtime's own.

        Example:
            >>> skate.get_runtime_context().get_node_labels()["ray.io/node-id"]
            '5f1c...'
        """
        here = self._engine.identity().node_id
        return next((dict(one.labels) for one in self._engine.nodes() if one.node_id == here), {})

    def get_worker_id(self) -> str:
        """Return this process's id in hex."""
        return self._engine.running().process_id.hex()

    def get_task_id(self) -> str | None:
        """Return the running task's id in hex, or None in a driver."""
        return self._engine.running().task_id.hex() or None

    def get_task_name(self) -> str | None:
        """Return the running task's name: its option ``name``, or the function's."""
        return self._engine.running().task_name or None

    def get_actor_id(self) -> str | None:
        """Return the actor's id in hex, or None outside of actors."""
        actor = self._engine.running().actor
        return actor.info.actor_id.hex() if actor is not None else None

    def get_actor_name(self) -> str | None:
        """Return the actor's name ("" if it has none), or None outside of actors."""
        actor = self._engine.running().actor
        return actor.name if actor is not None else None

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the ids of the GPUs that this task or actor may use: ``{"GPU": ["0"]}``."""
        return {"GPU": list(self._engine.assigned()[1])}

    def get_assigned_resources(self) -> dict[str, float]:
        """Return what this task or actor holds: ``{"CPU": 1.0}``. Empty in a driver."""
        return dict(self._engine.assigned()[0])

    @property
    def job_id(self) -> ids.JobID:
        """The job's id, as older programs read it."""
        return ids.JobID(self._engine.identity().job_id)

    @property
    def node_id(self) -> ids.NodeID:
        """The node's id, as older programs read it."""
        return ids.NodeID(self._engine.identity().node_id)

    @property
    def task_id(self) -> ids.TaskID | None:
        """The running task's id, as older programs read it; None in a driver."""
        found = self._engine.running().task_id
        return ids.TaskID(found) if found else None

    @property
    def actor_id(self) -> ids.ActorID | None:
        """The actor's id, as older programs read it; None outside of actors."""
        actor = self._engine.running().actor
        return ids.ActorID(actor.info.actor_id) if actor is not None else None

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor is not its first incarnation."""
        actor = self._engine.running().actor
        return actor is not None and actor.is_restarted

    @property
    def namespace(self) -> str:
        """The namespace of this job's named actors."""
        return self._engine.identity().namespace

    @property
    def current_actor(self) -> Any:
        """A handle to the actor that this runs in. It does not keep the actor alive.

        Raises:
            RuntimeError: this is not an actor.
        """
        actor = self._engine.running().actor
        if actor is None:
            raise RuntimeError("current_actor: This method is only available in an actor.")
        from skate.actor import ActorHandle

        return ActorHandle(actor.info)

    def is_canceled(self) -> bool:
        """Tell whether ``cancel`` was called for what runs here, so that it can end early and clean up.

        Raises:
            RuntimeError: this is a driver, or an async actor (there ``asyncio.CancelledError`` is raised
                in the method).
        """
        return self._engine.is_cancelled()

    @property
    def gcs_address(self) -> str:
        """The address of the control store."""
        return str(self._engine.addresses()["gcs_address"])

    def get_task_function_name(self) -> str | None:
        """Return the running function's module and name, whatever the call is named; None in a driver.

        The module of what the program itself defines is the program's file, as in Ray.

        Example:
            >>> skate.get(which.remote())  # which() returns get_runtime_context().get_task_function_name()
            'program.which'
        """
        return self._engine.function_name()

    def get_placement_group_id(self) -> str | None:
        """Return the id, in hex, of the placement group that this runs in; None: it runs in none."""
        group, _ = self._engine.current_group()
        return group.hex() if group else None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks and actors that this starts run in its placement group, too."""
        return self._engine.current_group()[1]

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The environment of this task, actor or job: what it was given, and what it inherited.

        Example:
            >>> skate.get_runtime_context().runtime_env.get("env_vars")
            {'MODE': 'test'}
        """
        from skate.runtime_env import RuntimeEnv

        return RuntimeEnv(**decode(self._engine.identity().environment).shown, _validate=False)

    def get_runtime_env_string(self) -> str:
        """Return ``runtime_env`` as JSON: "{}" if there is none."""
        return self.runtime_env.serialize()

    def get_session_name(self) -> str:
        """Return the name of the session's folder."""
        return self._engine.session_dir.rpartition("/")[2]

    def get_temp_dir(self) -> str:
        """Return the folder in which the session's folder lies."""
        return self._engine.session_dir.rpartition("/")[0]

    def get(self) -> dict[str, Any]:
        """Return the ids as a dict, as older programs use it.

        Returns:
            ``job_id``, ``node_id``, ``namespace``; in a task ``task_id`` as well, in an actor ``actor_id``.

        Example:
            >>> skate.get_runtime_context().get()["job_id"]
            JobID(00000001)
        """
        found: dict[str, Any] = {
            "job_id": ids.JobID(self._engine.identity().job_id),
            "node_id": ids.NodeID(self._engine.identity().node_id),
            "namespace": self.namespace,
        }
        task_id = self._engine.running().task_id
        if task_id:
            found["task_id"] = ids.TaskID(task_id)
        actor_id = self.actor_id
        if actor_id is not None:
            found["actor_id"] = actor_id
        return found

    @property
    def worker(self) -> ThisProcess:
        """This process, as programs written for Ray look at it: ``worker.mode``."""
        return ThisProcess(self._engine)


def get_gpu_ids() -> list[int | str]:
    """Return the ids of the GPUs that this task or actor may use; whole numbers where they are such.

    CUDA_VISIBLE_DEVICES says the same to libraries. In a driver: none, for nothing was assigned to it.
    Starts a session with the defaults if there is none.

    Example:
        >>> @skate.remote(num_gpus=1)
        ... def which():
        ...     return skate.get_gpu_ids()
        >>> skate.get(which.remote())
        [0]
    """
    gpus = connected_engine().assigned()[1]
    return [int(one) if one.isdigit() else one for one in gpus]


def get_runtime_context() -> RuntimeContext:
    """Return facts about the running driver, task or actor.

    Starts a session with the defaults if there is none, as Ray does.

    Example:
        >>> skate.get_runtime_context().get_job_id()
        '00000001'
    """
    return RuntimeContext(connected_engine())
