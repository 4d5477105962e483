"""``ray._private.worker``: the public functions, and ``global_worker``, which knows what this process is."""

from __future__ import annotations

import os
from typing import Any

import skate
from skate._ray._missing import missing
from skate.api import RayContext, session_context

SCRIPT_MODE, WORKER_MODE, LOCAL_MODE = skate.SCRIPT_MODE, skate.WORKER_MODE, 2
#: ``ray.worker.BaseContext``: what ``init`` returns.
BaseContext = RayContext

#: Of these, ``ray._private.worker`` has the definitions.
_PUBLIC = ("available_resources", "cancel", "get", "get_actor", "get_gpu_ids", "get_runtime_context", "init",
           "is_initialized", "kill", "put", "remote", "shutdown", "wait")  # fmt: skip


class Node:
    """The node that this process is on, as far as programs read it off ``global_worker.node``."""

    @property
    def address_info(self) -> dict[str, Any]:
        """Return the value of ``init`` as a dict: addresses, and the session's folder."""
        return dict(session_context())

    @property
    def unique_id(self) -> str:
        """The node's id in hex."""
        return skate.get_runtime_context().get_node_id()

    @property
    def node_id(self) -> str:
        """The node's id in hex."""
        return self.unique_id

    @property
    def node_ip_address(self) -> str:
        """The address by which the session knows this node."""
        return skate.util.get_node_ip_address()

    @property
    def gcs_address(self) -> str:
        """The address of the control store."""
        return skate.get_runtime_context().gcs_address

    @property
    def address(self) -> str:
        """Return the address with which ``init(address=...)`` joins this session."""
        return self.get_session_dir_path()

    @property
    def session_name(self) -> str:
        """The name of the session's folder."""
        return skate.get_runtime_context().get_session_name()

    def get_session_dir_path(self) -> str:
        """Return the session's folder."""
        return os.path.join(self.get_temp_dir_path(), self.session_name)

    def get_logs_dir_path(self) -> str:
        """Return the folder with what workers printed."""
        return os.path.join(self.get_session_dir_path(), "logs")

    def get_temp_dir_path(self) -> str:
        """Return the folder in which the session's folder lies."""
        return skate.get_runtime_context().get_temp_dir()


class Worker:
    """This process, as far as programs read it off ``ray.worker.global_worker``.

    Asked at every look: nothing is kept. Without a session ``mode`` and ``node`` are None.
    """

    @property
    def connected(self) -> bool:
        """Whether this process is connected to a session."""
        return skate.is_initialized()

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE in a driver, WORKER_MODE in a worker, None without a session."""
        return skate.get_runtime_context().worker.mode if self.connected else None

    @property
    def node(self) -> Node | None:
        """The node that this process is on; None without a session."""
        return Node() if self.connected else None

    @property
    def node_ip_address(self) -> str:
        """The address by which the session knows this node."""
        return skate.util.get_node_ip_address()

    @property
    def worker_id(self) -> bytes:
        """The id of this process."""
        return skate.get_runtime_context().worker.worker_id

    @property
    def current_job_id(self) -> skate.JobID:
        """The job that this process works for."""
        return skate.get_runtime_context().job_id

    @property
    def current_node_id(self) -> skate.NodeID:
        """The node that this process is on."""
        return skate.get_runtime_context().node_id

    @property
    def current_task_id(self) -> skate.TaskID | None:
        """The task that runs here; None in a driver."""
        return skate.get_runtime_context().task_id

    @property
    def actor_id(self) -> skate.ActorID | None:
        """The actor that this is; None if it is none."""
        return skate.get_runtime_context().actor_id

    @property
    def namespace(self) -> str:
        """The namespace of this job's named actors."""
        return skate.get_runtime_context().namespace

    @property
    def runtime_env(self) -> str:
        """The runtime environment as JSON."""
        return skate.get_runtime_context().get_runtime_env_string()

    def check_connected(self) -> None:
        """Raise unless this process is connected to a session.

        Raises:
            RaySystemError: it is not.
        """
        if not self.connected:
            raise skate.exceptions.RaySystemError(
                "this process is not connected to a session: call init() first"
            )

    def __getattr__(self, name: str) -> Any:
        missing(f"{__name__}.global_worker", name)


global_worker = Worker()


def __getattr__(name: str) -> object:
    if name == "_global_node":
        return global_worker.node
    if name in _PUBLIC:
        return getattr(skate, name)
    return missing(__name__, name)
