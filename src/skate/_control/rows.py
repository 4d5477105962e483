"""Makes plain rows of actors for the state API."""

from __future__ import annotations

from typing import Any

import msgspec

from skate._base.resources import to_float
from skate._control.actors import ActorRecord
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


def _shown(environment: bytes) -> str:
    """Return an encoded environment in the form that its user wrote, as JSON."""
    return msgspec.json.encode(decode(environment).shown).decode() if environment else ""
