"""The processes of serve, as tests look at them and kill them."""

from __future__ import annotations

import os
import signal
from typing import Any

import skate
from skate.serve._client.client import controller
from skate.serve._targets import DeploymentId


def replicas(deployment: str, app: str = "default") -> dict[str, Any]:
    """Return the handles of a deployment's running replicas, by id."""
    found: dict[str, Any] = skate.get(controller().replicas.remote(DeploymentId(deployment, app)))
    return found


def counts(deployment: str, app: str = "default") -> list[dict[str, Any]]:
    """Return what each running replica says of itself; no request, so no slot is needed."""
    found: list[dict[str, Any]] = skate.get(
        [one.counts.remote() for one in replicas(deployment, app).values()]
    )
    return found


def pid_of(actor: Any) -> int:
    """Return the process of a replica, or of the controller."""
    found: int = skate.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    return found


def kill_controller() -> None:
    """Have the controller's process die; the session starts another one."""
    os.kill(pid_of(controller()), signal.SIGKILL)
