"""Names for annotations."""

from skate._worker.objects.object_ref import ObjectRef

__all__ = ["ObjectRef"]
