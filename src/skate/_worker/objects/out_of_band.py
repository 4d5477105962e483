"""Refuses to pickle refs where the runtime cannot see it, if the environment forbids that."""

from __future__ import annotations

import io
import os
import sys
from types import CodeType
from typing import Any

import cloudpickle

from skate._base import errors
from skate._serialize.values import with_file
from skate._worker.objects.object_ref import ObjectRef

#: Ray's variable: "0" forbids it.
VARIABLE = "RAY_allow_out_of_band_object_ref_serialization"


def is_forbidden() -> bool:
    """Tell whether the environment forbids it."""
    return os.environ.get(VARIABLE, "1").lower() in ("0", "false")


class CloudPickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """cloudpickle's pickler, which refuses refs where the environment forbids them.

    Handles of actors are no refs, though they hold one.
    """

    #: Whether code has the name of its file, which tracebacks show.
    names_files = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forbidden = is_forbidden()
        self._of_handles: set[int] = set()

    def reducer_override(self, obj: Any) -> Any:
        """See pickle.

        Raises:
            OufOfBandObjectRefSerializationException: the object is a ref, and the environment forbids that.
        """
        if self._forbidden:
            actor = sys.modules.get("skate.actor")  # a worker may not have it: then there are no handles
            if actor is not None and isinstance(obj, actor.ActorHandle):
                self._of_handles.add(id(obj._info.ref))
            elif type(obj) is ObjectRef and id(obj) not in self._of_handles:
                raise errors.OufOfBandObjectRefSerializationException(
                    f"It is not allowed to serialize ray.ObjectRef {obj.hex()} here: the runtime sees only "
                    f"arguments, results and stored values. If you want to allow serialization, set "
                    f"`{VARIABLE}=1`: the object is then kept as long as the job lives. Else pass the ref as "
                    "an argument"
                )
        if type(obj) is CodeType and self.names_files:
            return with_file(self.dispatch_table[CodeType](obj), obj)
        return super().reducer_override(obj)


def check_code(code: Any) -> None:
    """Raise if a function or class has captured refs, and the environment forbids that.

    Raises:
        OufOfBandObjectRefSerializationException: it has.
    """
    if is_forbidden():
        CloudPickler(io.BytesIO()).dump(code)
