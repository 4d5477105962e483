"""Functions that make tensors of batches, for ``iter_torch_batches(collate_fn=...)``.

A subclass says by its base in which format it gets a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

Batch = TypeVar("Batch")


class CollateFn(ABC, Generic[Batch]):
    """Makes of a batch what the loop of a training gets.

    Attributes:
        batch_format: the format in which a batch is given.
    """

    batch_format: str = "numpy"

    @abstractmethod
    def __call__(self, batch: Batch) -> Any:
        """Return tensors: one, a list, a tuple or a dict of them."""


class ArrowBatchCollateFn(CollateFn["pa.Table"]):
    """Gets a ``pyarrow.Table``."""

    batch_format = "pyarrow"


class NumpyBatchCollateFn(CollateFn[dict[str, Any]]):
    """Gets a dict of numpy arrays."""

    batch_format = "numpy"


class PandasBatchCollateFn(CollateFn[Any]):
    """Gets a ``pandas.DataFrame``."""

    batch_format = "pandas"


class DefaultCollateFn(ArrowBatchCollateFn):
    """Makes a dict of torch tensors, one for each column; what ``iter_torch_batches`` does by itself.

    Args:
        dtypes: a torch dtype for all columns, or a dict by column.
        combine_chunks: accepted for Ray's sake: columns of a batch are always in one piece.
        num_workers: accepted for Ray's sake: a batch is one copy at most.

    Example:
        >>> ds.iter_torch_batches(collate_fn=DefaultCollateFn(dtypes={"label": torch.float32}))
    """

    def __init__(self, dtypes: Any = None, combine_chunks: bool = False, num_workers: int = 4) -> None:
        self.dtypes = dtypes
        self.combine_chunks = combine_chunks
        self.num_workers = num_workers

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        """Return tensors by column."""
        from skate.data._block.batches import to_batch

        return tensors(to_batch(batch, "numpy"), self.dtypes)


def tensors(batch: Mapping[str, Any], dtypes: Any = None) -> dict[str, Any]:
    """Return torch tensors of the columns of a numpy batch.

    Args:
        batch: arrays by column.
        dtypes: a torch dtype for all columns, or a dict by column; None: those of the arrays.

    Returns:
        Tensors by column; columns of ragged arrays become lists of tensors.

    Raises:
        TypeError: a column of text or objects, which torch has no tensors for; the message names it.
    """
    return {name: _tensor(name, column, dtypes) for name, column in batch.items()}


def _tensor(name: str, column: Any, dtypes: Any) -> Any:
    import numpy as np

    torch = import_module("torch")
    dtype = dtypes.get(name) if isinstance(dtypes, Mapping) else dtypes
    if column.dtype.kind == "O" and len(column) and all(isinstance(one, np.ndarray) for one in column):
        return [_tensor(name, one, dtypes) for one in column]
    if column.dtype.kind not in "biufc":
        raise TypeError(
            f"column {name!r} has the type {column.dtype}, which torch has no tensors for: leave it out by "
            "select_columns or drop_columns, or give a collate_fn"
        )
    if column.dtype.kind == "u" and column.dtype.itemsize > 1:
        # Older versions of torch have no unsigned types above 8 bits.
        column = column.astype(np.dtype(f"i{min(8, column.dtype.itemsize * 2)}"))
    if not column.flags.writeable:
        # torch warns of arrays that it could write to and must not.
        column = column.copy()
    made = torch.as_tensor(column)
    return made if dtype is None else made.to(dtype)


def is_tensor_batch_type(batch: Any) -> bool:
    """Tell whether something is a tensor, or a list, tuple or dict of tensors (or of lists of tensors)."""
    if isinstance(batch, import_module("torch").Tensor):
        return True
    if isinstance(batch, Mapping):
        return all(is_tensor_batch_type(one) for one in batch.values())
    if isinstance(batch, (list, tuple)):
        return all(is_tensor_batch_type(one) for one in batch)
    return False
