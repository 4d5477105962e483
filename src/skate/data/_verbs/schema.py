"""The schema of a data set as people see it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from skate.data._block.schemas import public_schema


class Schema:
    """Names and types of the columns of a data set.

    Args:
        base_schema: the pyarrow schema.
        data_context: accepted for Ray's sake.

    Attributes:
        base_schema: the pyarrow schema, without metadata.

    Example:
        >>> print(skate.data.range(3).schema())
        Column  Type
        ------  ----
        id      int64
    """

    def __init__(self, base_schema: pa.Schema, *, data_context: Any = None) -> None:
        self.base_schema: pa.Schema = public_schema(base_schema).remove_metadata()

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return list(self.base_schema.names)

    @property
    def types(self) -> list[pa.DataType]:
        """The columns' types, in order, as pyarrow's."""
        return list(self.base_schema.types)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and bool(other.base_schema.equals(self.base_schema))

    def __hash__(self) -> int:
        return hash(tuple(zip(self.base_schema.names, map(str, self.base_schema.types), strict=True)))

    def __repr__(self) -> str:
        names = ["Column", "------", *map(str, self.base_schema.names)]
        types = ["Type", "----", *(type_name(kind) for kind in self.base_schema.types)]
        width = max(map(len, names))
        return "\n".join(f"{name:<{width}}  {kind}".rstrip() for name, kind in zip(names, types, strict=True))


def type_name(kind: pa.DataType) -> str:
    """Return a type as people read it: ``int64``, ``tensor(shape=(3, 4), dtype=uint8)``."""
    name = getattr(kind, "extension_name", None)
    if name is None:
        return str(kind)
    if name == "arrow.fixed_shape_tensor":
        return f"tensor(shape={tuple(kind.shape)}, dtype={kind.value_type})"
    text = str(kind)
    return text if not text.startswith("extension<") else name
