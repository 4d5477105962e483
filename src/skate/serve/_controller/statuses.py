"""How applications and deployments stand, in the words of ``serve.status()``. Decisions only: no I/O, no
clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from skate.serve._controller.deployment import Deployment, State
from skate.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
)

#: The trigger of a settled deployment, by ``Deployment.scaled``.
_COMPLETED = {
    -1: DeploymentStatusTrigger.DOWNSCALE_COMPLETED,
    0: DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED,
    1: DeploymentStatusTrigger.UPSCALE_COMPLETED,
}


def of_deployment(one: Deployment, now: float) -> DeploymentStatusOverview:
    """Return how a deployment stands."""
    states: dict[str, int] = {}
    for replica in one.replicas.values():
        states[replica.state.value] = states.get(replica.state.value, 0) + 1
    status, trigger = _status(one)
    blocked = [
        f"replica {replica.id} is blocked for {now - replica.blocked_at:.0f} s in {replica.blocked_in}"
        for replica in one.replicas.values()
        if replica.blocked_in
    ]
    lines = [one.failure, *_waiting(one), *blocked]
    return DeploymentStatusOverview(status, trigger, states, "\n".join(filter(None, lines)))


def _waiting(one: Deployment) -> list[str]:
    """Return how many replicas do not start, and why."""
    if one.target is None:
        return []
    settings = one.target.settings
    reasons = Counter(
        replica.waits_for
        for replica in one.replicas.values()
        if replica.state is State.STARTING and replica.waits_for
    )
    if one.beyond:
        limit = f"max_replicas_per_node is {settings.max_replicas_per_node}, and there is one node"
        reasons[limit] += one.beyond
    return [
        f"{number} of {settings.num_replicas} replicas wait{'s' * (number == 1)}: {reason}"
        for reason, number in reasons.items()
    ]


def _status(one: Deployment) -> tuple[DeploymentStatus, DeploymentStatusTrigger]:
    if one.target is None:
        return DeploymentStatus.UPDATING, DeploymentStatusTrigger.DELETING
    if one.has_failed:
        return DeploymentStatus.DEPLOY_FAILED, DeploymentStatusTrigger.REPLICA_STARTUP_FAILED
    if one.rolled_back:
        return DeploymentStatus.HEALTHY, DeploymentStatusTrigger.REPLICA_STARTUP_FAILED
    if one.is_settled:
        return DeploymentStatus.HEALTHY, _COMPLETED[one.scaled]
    if one.scaling:
        way = DeploymentStatus.UPSCALING if one.scaling > 0 else DeploymentStatus.DOWNSCALING
        return way, DeploymentStatusTrigger.AUTOSCALING
    if one.good is not None and one.good == one.target:
        running = one.count(State.RUNNING, one.target.version) + one.beyond
        if one.beyond and running == one.target.settings.num_replicas:
            return DeploymentStatus.UPDATING, DeploymentStatusTrigger.CONFIG_UPDATE_STARTED
        if running < one.target.settings.num_replicas:
            return DeploymentStatus.UNHEALTHY, DeploymentStatusTrigger.HEALTH_CHECK_FAILED
        return DeploymentStatus.HEALTHY, DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED
    return DeploymentStatus.UPDATING, DeploymentStatusTrigger.CONFIG_UPDATE_STARTED


def of_application(
    deployments: Mapping[str, Deployment],
    wanted: Collection[str],
    deployed_at: float,
    deleting: bool,
    now: float,
) -> ApplicationStatusOverview:
    """Return how an application stands.

    Args:
        deployments: by name.
        wanted: those that the application is to have; the others are on their way out.
        deployed_at: seconds of the wall clock.
        deleting: it is being removed.
        now: seconds of the clock by which replicas were blocked.
    """
    found = {name: of_deployment(one, now) for name, one in deployments.items()}
    statuses = {one.status for name, one in found.items() if name in wanted}
    message = "\n".join(
        f"{name}: {one.message}" for name, one in found.items() if name in wanted and one.message
    )
    if deleting:
        status = ApplicationStatus.DELETING
    elif DeploymentStatus.DEPLOY_FAILED in statuses:
        status = ApplicationStatus.DEPLOY_FAILED
    elif DeploymentStatus.UPDATING in statuses:
        status = ApplicationStatus.DEPLOYING
    elif DeploymentStatus.UNHEALTHY in statuses:
        status = ApplicationStatus.UNHEALTHY
    else:
        status = ApplicationStatus.RUNNING
    return ApplicationStatusOverview(status, message, deployed_at, found)
