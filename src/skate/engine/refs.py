"""The classes of refs, which every engine hands out, and checks of what ``get`` and ``wait`` take."""

from skate._worker.calls.generators import DynamicObjectRefGenerator, ObjectRefGenerator
from skate._worker.objects.checks import check_timeout, check_wait
from skate._worker.objects.object_ref import ObjectRef

__all__ = ["DynamicObjectRefGenerator", "ObjectRef", "ObjectRefGenerator", "check_timeout", "check_wait"]
