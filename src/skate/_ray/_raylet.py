"""``ray._raylet``: ids, refs and generators."""

from __future__ import annotations

import skate
from skate._base import ids
from skate._ray._missing import missing

_NAMES = ("ActorClassID", "ActorID", "ClusterID", "DynamicObjectRefGenerator", "FunctionID", "JobID",
          "NodeID", "ObjectID", "ObjectRef", "ObjectRefGenerator", "PlacementGroupID", "TaskID", "UniqueID",
          "WorkerID")  # fmt: skip
#: Other names, and what they are names of.
_OTHERS = {"StreamingObjectRefGenerator": "ObjectRefGenerator"}

__all__ = [*_NAMES, *_OTHERS]


def __getattr__(name: str) -> object:
    if name == "BaseID":
        return ids.BaseID
    if name not in _NAMES and name not in _OTHERS:
        missing(__name__, name)
    found: object = getattr(skate, _OTHERS.get(name, name))
    globals()[name] = found
    return found
