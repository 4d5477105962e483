"""Policies: how many replicas the load asks for."""

from __future__ import annotations

from typing import Any

from skate.serve.config import AutoscalingContext

__all__ = ["default_autoscaling_policy", "replica_queue_length_autoscaling_policy"]


def replica_queue_length_autoscaling_policy(ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Return one replica for each ``target_ongoing_requests`` requests that run or wait, and no state.

    The default policy, which others may start from.

    Args:
        ctx: the deployment.

    Example:
        >>> def with_one_to_spare(ctx):
        ...     return replica_queue_length_autoscaling_policy(ctx)[0] + 1
    """
    return ctx.total_num_requests / ctx.config.target_ongoing_requests, {}


default_autoscaling_policy = replica_queue_length_autoscaling_policy
