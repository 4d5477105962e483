"""Loops over a Dataset: rows, batches, tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skate.data._verbs.core import Core
from skate.data._verbs.iterators import DataIterator, DatasetIterator


class Loops(Core):
    """``iter_rows``, ``iter_batches``, ``iter_torch_batches``, ``iterator``."""

    def iterator(self) -> DataIterator:
        """Return a DataIterator, which tasks and actors can be given."""
        return DatasetIterator(self)

    def iter_rows(self) -> Iterable[dict[str, Any]]:
        """Return an iterable of rows as dicts.

        Each loop over it runs the data set; leaving a loop early stops what still runs.

        Example:
            >>> for row in skate.data.range(3).iter_rows():
            ...     print(row)
            {'id': 0}
            {'id': 1}
            {'id': 2}
        """
        return DatasetIterator(self).iter_rows()

    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: str | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        _collate_fn: Callable[[Any], Any] | None = None,
    ) -> Iterable[Any]:
        """Return an iterable of batches of exactly ``batch_size`` rows, whatever the blocks are.

        Each loop over it runs the data set; leaving a loop early stops what still runs. Arrays are read-only.

        Args:
            prefetch_batches: batches that a thread makes ahead, once making and using one take long; 0: none.
            batch_size: rows of a batch; None: whole blocks.
            batch_format: ``"numpy"`` (also ``"default"``): a dict of arrays; ``"pandas"``; ``"pyarrow"``;
                None:
                blocks as they are.
            drop_last: leave out the last batch if it is smaller.
            local_shuffle_buffer_size: rows among which the order is drawn; None: no shuffling.
            local_shuffle_seed: of the order.

        Raises:
            ValueError, TypeError: an option out of range; the message names it.

        Example:
            >>> for batch in ds.iter_batches(batch_size=32, batch_format="pandas"):
            ...     model.update(batch)
        """
        return DatasetIterator(self).iter_batches(
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            batch_format=batch_format,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
            _collate_fn=_collate_fn,
        )

    def iter_torch_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: Any = None,
        device: Any = "auto",
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        pin_memory: bool = False,
    ) -> Iterable[Any]:
        """Return an iterable of batches of torch tensors: a dict with one for each column.

        Args:
            prefetch_batches: batches that a thread makes ahead and sends to the device; 0: none.
            batch_size: rows of a batch; None: whole blocks.
            dtypes: a torch dtype for all columns, or a dict by column; not with ``collate_fn``.
            device: where tensors go: a device, its name, ``"auto"`` (a GPU if there is one) or None.
            collate_fn: gets a numpy batch and returns what the loop gets; an instance of a class in
                ``skate.data.collate_fn`` gets the format of its base.
            drop_last: leave out the last batch if it is smaller.
            local_shuffle_buffer_size: rows among which the order is drawn; None: no shuffling.
            local_shuffle_seed: of the order.
            pin_memory: copy into pinned memory first; it is often slower, so measure.

        Raises:
            ImportError: torch is not installed.
            TypeError: a column of text or objects; the message names it.
            ValueError: an option out of range.

        Example:
            >>> for batch in ds.iter_torch_batches(batch_size=32):
            ...     loss = model(batch["image"], batch["label"])
        """
        return DatasetIterator(self).iter_torch_batches(
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            dtypes=dtypes,
            device=device,
            collate_fn=collate_fn,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
            pin_memory=pin_memory,
        )
