"""Expressions that depend on where a row is: row numbers and random values."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.kernels.arrays import counter
from skate.data._block.kernels.hashing import fresh_seed, hash_text, random_numbers
from skate.data.expressions._tree import Expr
from skate.data.expressions._values import RowPlace, Value

_ROW_BITS = 33


class _PlaceExpr(Expr):
    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return ()

    def _needs_place(self) -> bool:
        return True


class MonotonicallyIncreasingIdExpr(_PlaceExpr):
    """A number for each row: of its task in the high bits, of its place there in the low 33."""

    @property
    def data_type(self) -> pa.DataType | None:
        """int64."""
        return pa.int64()

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        last = rows.task_id.rpartition(".")[2]
        task = int(last) if last.isdecimal() else hash_text(rows.task_id) >> 34
        return counter(block.num_rows, (task << _ROW_BITS) + rows.first_row).cast(pa.int64())

    def _label(self) -> str:
        return "MONOTONICALLY_INCREASING_ID()"


class RowIdExpr(_PlaceExpr):
    """A text for each row, ``"<task>:<row>"``, as dead letters name it."""

    @property
    def data_type(self) -> pa.DataType | None:
        """String."""
        return pa.string()

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        numbers = counter(block.num_rows, rows.first_row).cast(pa.string())
        return pc.binary_join_element_wise(rows.task_id, numbers, ":")

    def _label(self) -> str:
        return "ROW_ID()"


class RandomExpr(_PlaceExpr):
    """A random number from 0 to 1 for each row, by seed, task and row."""

    def __init__(self, seed: int | None = None, reseed_after_execution: bool = True) -> None:
        self.seed = seed
        self.reseed_after_execution = reseed_after_execution
        self._drawn = fresh_seed() if seed is None else seed

    @property
    def data_type(self) -> pa.DataType | None:
        """float64."""
        return pa.float64()

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        numbers = random_numbers(self._drawn, rows.task_id, block.num_rows, rows.first_row)
        high = pc.shift_right(numbers, pa.scalar(11, pa.uint64()))
        return pc.multiply(high.cast(pa.float64(), safe=False), 2.0**-53)

    def _label(self) -> str:
        return f"RANDOM(seed={self._drawn})"

    def _is_volatile(self) -> bool:
        return self.seed is None


class UUIDExpr(_PlaceExpr):
    """A random UUID (version 4) as text for each row."""

    def __init__(self) -> None:
        self._drawn = fresh_seed()

    @property
    def data_type(self) -> pa.DataType | None:
        """String."""
        return pa.string()

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        halves: list[Any] = [
            random_numbers(self._drawn, f"{rows.task_id}/{half}", block.num_rows, rows.first_row).to_pylist()
            for half in (0, 1)
        ]
        made = [str(uuids.UUID(int=high << 64 | low, version=4)) for high, low in zip(*halves, strict=True)]
        return pa.array(made, pa.string())

    def _label(self) -> str:
        return "UUID()"

    def _is_volatile(self) -> bool:
        return True


class StarExpr(Expr):
    """All columns, in a list of columns to select."""

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        raise ValueError("star() stands for all columns in a list of columns; it has no value of its own")

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return ()

    def _label(self) -> str:
        return "STAR"

    def _has_unknown_type(self) -> bool:
        return True


class UnnestExpr(Expr):
    """The fields of a struct as columns, in a list of columns to select."""

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    def _value(self, block: pa.Table, rows: RowPlace) -> Value:
        return self.expr._value(block, rows)

    def _parts(self) -> Sequence[tuple[str, Expr]]:
        return (("", self.expr),)

    def _label(self) -> str:
        return "UNNEST"
