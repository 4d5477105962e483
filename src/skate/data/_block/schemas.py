"""The one schema of blocks that were made apart: which type holds what several types hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
from pyarrow import types

from skate.data._block import tensors
from skate.data._block.errors import SchemaConflictError
from skate.data._block.objects import PickledType, is_pickled
from skate.data._block.sources import KEY

#: Column that holds the number of rows of a table without columns, as Arrow loses it; people never see it.
NO_COLUMNS = "__skate_no_columns__"

_UNITS = ("s", "ms", "us", "ns")


def public_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema as people see it: without metadata of ours and without the stand-in for no columns."""
    if schema.metadata and KEY in schema.metadata:
        left = {key: value for key, value in schema.metadata.items() if key != KEY}
        schema = schema.with_metadata(left) if left else schema.remove_metadata()
    position = schema.get_field_index(NO_COLUMNS)
    return schema if position < 0 else schema.remove(position)


def unify_schemas(schemas: Iterable[pa.Schema], on_conflict: str = "error") -> pa.Schema:
    """Return the schema that holds the rows of blocks with these schemas.

    A column that some blocks lack is null there. A column without any value (type null) takes the type of the
    others. Numbers become the wider type: int and float become float64. Timestamps take the finer unit,
    structs have the fields of all, arrays of different shapes become ragged. A column of pickled values in
    one block makes it one in all.

    Args:
        schemas: in the order of the blocks, which is the order of the columns.
        on_conflict: ``"error"``, or ``"object"``: pickle the values of columns that have no common type.

    Raises:
        SchemaConflictError: a column has types without a common one, such as int64 and string.

    Example:
        >>> unify_schemas([pa.schema({"a": pa.int64()}), pa.schema({"a": pa.float32(), "b": pa.null()})])
        a: double
        b: null
    """
    fields: dict[str, pa.Field] = {}
    metadata: dict[bytes, bytes] = {}
    first: pa.Schema | None = None
    is_same = True
    for schema in schemas:
        if first is None:
            first = schema
        elif schema is first or schema.equals(first):
            continue
        is_same = False
        for key, value in (schema.metadata or {}).items():
            metadata.setdefault(key, value)
        for field in schema:
            known = fields.get(field.name)
            if known is None:
                fields[field.name] = field
            elif known.type != field.type:
                type_ = _merge_or_object(known.type, field.type, field.name, on_conflict)
                fields[field.name] = pa.field(field.name, type_, True, known.metadata)
            elif field.nullable and not known.nullable:
                fields[field.name] = known.with_nullable(True)
    if first is None:
        return pa.schema([])
    if is_same:
        return first
    if len(fields) > 1:
        fields.pop(NO_COLUMNS, None)
    return pa.schema(list(fields.values()), metadata=metadata or None)


def check_same(schemas: Sequence[pa.Schema]) -> None:
    """Raise SchemaConflictError if schemas differ in a name or a type."""
    for schema in schemas[1:]:
        found = first_difference(schemas[0], schema)
        if found is not None:
            name, left, right = found
            raise SchemaConflictError(name, left or "missing", right or "missing", 'on_schema="error"')


def first_difference(
    left: pa.Schema, right: pa.Schema
) -> tuple[str, pa.DataType | None, pa.DataType | None] | None:
    """Return the first column in which schemas differ with its types, None where it is missing."""
    if left is right or left.equals(right):
        return None
    types_of = [{field.name: field.type for field in schema} for schema in (left, right)]
    for name in dict.fromkeys([*types_of[0], *types_of[1]]):
        one, other = types_of[0].get(name), types_of[1].get(name)
        if one != other:
            return name, one, other
    return None


def _merge_or_object(left: pa.DataType, right: pa.DataType, column: str, on_conflict: str) -> pa.DataType:
    try:
        return merge_types(left, right, column)
    except SchemaConflictError:
        if on_conflict == "object":
            return PickledType()
        raise


def merge_types(left: pa.DataType, right: pa.DataType, column: str) -> pa.DataType:
    """Return the type that holds the values of two types.

    Args:
        left: a type.
        right: another type.
        column: name of the column, for the error.

    Raises:
        SchemaConflictError: there is none.
    """
    if left == right or types.is_null(right):
        return left
    if types.is_null(left):
        return right
    if is_pickled(left) or is_pickled(right):
        return PickledType()
    merged = _merge_scalars(left, right) or _merge_nested(left, right, column)
    if merged is None:
        raise SchemaConflictError(column, left, right)
    return merged


def _merge_scalars(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return the common type of numbers, of text, of bytes, or of times."""
    if _is_number(left) and _is_number(right):
        return _merge_numbers(left, right)
    if _is_text(left) and _is_text(right):
        return (
            pa.large_string() if types.is_large_string(left) or types.is_large_string(right) else pa.string()
        )
    if _is_bytes(left) and _is_bytes(right):
        return (
            pa.large_binary() if types.is_large_binary(left) or types.is_large_binary(right) else pa.binary()
        )
    if types.is_timestamp(left) and types.is_timestamp(right):
        if (left.tz is None) != (right.tz is None):
            return None
        return pa.timestamp(_finer(left.unit, right.unit), left.tz)
    if types.is_duration(left) and types.is_duration(right):
        return pa.duration(_finer(left.unit, right.unit))
    if types.is_time(left) and types.is_time(right):
        unit = _finer(left.unit, right.unit)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if types.is_date(left) and types.is_date(right):
        return pa.date64()
    return None


def _is_number(type_: pa.DataType) -> bool:
    return bool(types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_))


def _is_text(type_: pa.DataType) -> bool:
    return types.is_string(type_) or types.is_large_string(type_) or _is_view(type_, "string_view")


def _is_bytes(type_: pa.DataType) -> bool:
    return (
        types.is_binary(type_)
        or types.is_large_binary(type_)
        or types.is_fixed_size_binary(type_)
        or _is_view(type_, "binary_view")
    )


def _is_view(type_: pa.DataType, name: str) -> bool:
    return str(type_) == name


def _finer(left: str, right: str) -> str:
    return max(left, right, key=_UNITS.index)


def _merge_numbers(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return the common type of integers, floats and decimals."""
    if types.is_decimal(left) or types.is_decimal(right):
        if types.is_floating(left) or types.is_floating(right):
            return pa.float64()
        try:
            merged = pa.unify_schemas(
                [pa.schema({"x": left}), pa.schema({"x": right})], promote_options="permissive"
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return None
        return merged.field(0).type
    if types.is_floating(left) and types.is_floating(right):
        return left if left.bit_width >= right.bit_width else right
    if types.is_floating(left) or types.is_floating(right):
        floating, integer = (left, right) if types.is_floating(left) else (right, left)
        return floating if floating.bit_width >= 32 and integer.bit_width <= 16 else pa.float64()
    signed = types.is_signed_integer(left), types.is_signed_integer(right)
    wider = max(left.bit_width, right.bit_width)
    if signed[0] == signed[1]:
        return left if left.bit_width == wider else right
    unsigned = right if signed[0] else left
    if unsigned.bit_width == 64:
        return pa.uint64()
    width = max(wider, unsigned.bit_width * 2)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[width]


def _merge_nested(left: pa.DataType, right: pa.DataType, column: str) -> pa.DataType | None:
    """Return the common type of tensors, lists, structs, maps or dictionaries."""
    if tensors.is_tensor(left) and tensors.is_tensor(right):
        value = tensors.promoted(left.value_type, right.value_type)
        if value is None:
            value = merge_types(left.value_type, right.value_type, column)
        if tensors.is_fixed(left) and tensors.is_fixed(right) and left.shape == right.shape:
            return pa.fixed_shape_tensor(value, left.shape)
        return tensors.RaggedTensorType(value)
    if isinstance(left, pa.BaseExtensionType) or isinstance(right, pa.BaseExtensionType):
        return None
    if types.is_dictionary(left) or types.is_dictionary(right):
        return _merge_dictionaries(left, right, column)
    if types.is_struct(left) and types.is_struct(right):
        return _merge_structs(left, right, column)
    if types.is_map(left) and types.is_map(right):
        key = merge_types(left.key_type, right.key_type, f"{column}.key")
        return pa.map_(key, merge_types(left.item_type, right.item_type, f"{column}.value"))
    if _is_list(left) and _is_list(right):
        value = merge_types(left.value_type, right.value_type, f"{column}[]")
        if (
            types.is_fixed_size_list(left)
            and types.is_fixed_size_list(right)
            and left.list_size == right.list_size
        ):
            return pa.list_(value, left.list_size)
        return (
            pa.large_list(value)
            if types.is_large_list(left) or types.is_large_list(right)
            else pa.list_(value)
        )
    return None


def _is_list(type_: pa.DataType) -> bool:
    return bool(types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_))


def _merge_dictionaries(left: pa.DataType, right: pa.DataType, column: str) -> pa.DataType:
    if types.is_dictionary(left) and types.is_dictionary(right):
        value = merge_types(left.value_type, right.value_type, column)
        index = merge_types(left.index_type, right.index_type, column)
        return pa.dictionary(index, value, left.ordered and right.ordered)
    values = [type_.value_type if types.is_dictionary(type_) else type_ for type_ in (left, right)]
    return merge_types(values[0], values[1], column)


def _merge_structs(left: pa.DataType, right: pa.DataType, column: str) -> pa.DataType:
    fields = {field.name: field for field in _fields(left)}
    for field in _fields(right):
        known = fields.get(field.name)
        if known is None:
            fields[field.name] = field
        else:
            merged = merge_types(known.type, field.type, f"{column}.{field.name}")
            fields[field.name] = pa.field(field.name, merged)
    return pa.struct(list(fields.values()))


def _fields(type_: pa.DataType) -> Sequence[pa.Field]:
    return [type_.field(number) for number in range(type_.num_fields)]
