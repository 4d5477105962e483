"""Makes plain rows of actors and placement groups for the state API."""

from __future__ import annotations

from typing import Any

import msgspec

from skate._base.resources import to_float
from skate._control.actors import ActorRecord
from skate._control.groups import GroupRecord, GroupState
from skate._environment.spec import decode


def actor_row(actor: ActorRecord) -> dict[str, Any]:
    """Return the row from which ``util.state`` makes its columns."""
    spec = actor.spec
    return {
        "actor_id": actor.id.hex(),
        "class_name": spec.class_name,
        "state": actor.state.value,
        "name": spec.name,
        "ray_namespace": spec.namespace,
        "job": spec.owner_job.hex(),
        "node_id": actor.node.hex(),
        "worker_id": actor.worker.hex(),
        "num_restarts": actor.restarts,
        "death_cause": actor.cause,
        "is_detached": bool(spec.job_config),
        "required_resources": to_float(spec.running),
        "placement": to_float(spec.placement),
        "requirement": spec.requirement.hex(),
        "times": actor.times,
        "repr_name": actor.repr_name,
        "call_site": spec.call_site,
        "environment": _shown(spec.environment),
        "owner": spec.owner_id.hex(),
        "parent": spec.parent.hex(),
        "failed": bool(actor.error),
        "max_concurrency": spec.max_concurrency,
    }


def group_row(group: GroupRecord) -> dict[str, Any]:
    """Return the row from which ``util.state`` makes its columns, and programs a placement group."""
    spec = group.spec
    is_there = group.state is GroupState.CREATED
    scheduling = {GroupState.CREATED: "FINISHED", GroupState.REMOVED: "REMOVED"}.get(group.state)
    return {
        "group_id": group.id.hex(),
        "name": spec.name,
        "namespace": spec.namespace,
        "strategy": spec.strategy,
        "state": group.state.value,
        "bundles": [to_float(one) for one in spec.bundles],
        #: By bundle: the node that has it; empty: none yet.
        "placed": [node.hex() if is_there else "" for node in group.nodes or [b""] * len(spec.bundles)],
        "job_id": spec.job_id.hex(),
        "is_detached": spec.detached,
        "attempt": group.attempt,
        #: How its placement goes, in Ray's words.
        "scheduling": scheduling or ("INFEASIBLE" if group.reason else "QUEUED"),
        "reason": group.reason,
        "cause": group.cause,
        "times": group.times,
    }


def _shown(environment: bytes) -> str:
    """Return an encoded environment in the form that its user wrote, as JSON."""
    return msgspec.json.encode(decode(environment).shown).decode() if environment else ""
