"""Makes the rows of placement groups. Decisions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skate.util.state.common import PlacementGroupState

Plain = dict[str, Any]


def placement_groups(rows: Sequence[Plain]) -> list[PlacementGroupState]:
    """Return all placement groups, living and remembered."""
    return [
        PlacementGroupState(
            placement_group_id=row["group_id"],
            name=row["name"],
            creator_job_id=row["job_id"],
            state=row["state"],
            bundles=[
                {"bundle_id": {"placement_group_id": row["group_id"], "bundle_index": index},
                 "unit_resources": bundle, "node_id": node}
                for index, (bundle, node) in enumerate(zip(row["bundles"], row["placed"], strict=True))
            ],
            is_detached=row["is_detached"],
            stats={"scheduling_state": row["scheduling"], "scheduling_attempt": row["attempt"],
                   "reason": row["reason"] or row["cause"]},
        )
        for row in rows
    ]  # fmt: skip
