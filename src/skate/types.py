"""Names for annotations."""

from skate._worker.object_ref import ObjectRef

__all__ = ["ObjectRef"]
