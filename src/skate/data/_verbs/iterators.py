"""``DataIterator``: loops over the rows of a data set, here or in another task or actor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pyarrow as pa

from skate.data._block.rows import iter_rows
from skate.data._verbs import iteration, torch_batches
from skate.data._verbs.iteration import Again
from skate.data._verbs.schema import Schema
from skate.data.context import DataContext


class DataIterator(ABC):
    """Loops over rows or batches; each loop runs the data set, or takes part in an epoch of it.

    ``Dataset.iterator()`` and ``Dataset.streaming_split()`` make it. It can be passed to tasks and actors.
    """

    @abstractmethod
    def _begin(self) -> Generator[pa.Table, None, None]:
        """Begin a loop: yield the blocks of it. Closing the generator ends it."""

    @abstractmethod
    def schema(self) -> Schema | None:
        """Return names and types of the columns."""

    @abstractmethod
    def stats(self) -> str:
        """Return what the last loop did, for people."""

    @abstractmethod
    def get_context(self) -> DataContext:
        """Return the settings."""

    @abstractmethod
    def materialize(self) -> Any:
        """Run now and return the rows of this iterator as a MaterializedDataset."""

    def iter_rows(self) -> Again[dict[str, Any]]:
        """Return an iterable of rows as dicts; see ``Dataset.iter_rows``."""

        def begin() -> Generator[dict[str, Any], None, None]:
            blocks = self._begin()
            try:
                for table in blocks:
                    yield from iter_rows(table)
            finally:
                blocks.close()

        return Again(begin)

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
    ) -> Again[Any]:
        """Return an iterable of batches; see ``Dataset.iter_batches``."""
        iteration.check_batches(
            "iter_batches",
            batch_size,
            batch_format,
            prefetch_batches,
            drop_last,
            local_shuffle_buffer_size,
            local_shuffle_seed,
        )

        def begin() -> Iterator[Any]:
            made: Iterator[Any] = iteration.batches(
                self._begin(),
                batch_size,
                batch_format,
                drop_last,
                local_shuffle_buffer_size,
                local_shuffle_seed,
                self.get_context().on_conflict,
            )
            if _collate_fn is not None:
                made = _mapped(_collate_fn, made)
            return iteration.prefetched(made, prefetch_batches)

        return Again(begin)

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
    ) -> Again[Any]:
        """Return an iterable of batches of torch tensors; see ``Dataset.iter_torch_batches``."""
        iteration.check_batches(
            "iter_torch_batches",
            batch_size,
            "pyarrow",
            prefetch_batches,
            drop_last,
            local_shuffle_buffer_size,
            local_shuffle_seed,
        )
        torch_batches.check_torch_options(dtypes, device, collate_fn)

        def begin() -> Iterator[Any]:
            made = iteration.batches(
                self._begin(),
                batch_size,
                "pyarrow",
                drop_last,
                local_shuffle_buffer_size,
                local_shuffle_seed,
                self.get_context().on_conflict,
            )
            function = torch_batches.collate(dtypes, device, collate_fn, pin_memory)
            return iteration.prefetched(_mapped(function, made), prefetch_batches)

        return Again(begin)

    def __getattr__(self, name: str) -> Any:
        from skate.data._left_out import reason, refuse

        if reason(name) is not None:
            raise refuse(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _mapped(function: Callable[[Any], Any], items: Iterator[Any]) -> Generator[Any, None, None]:
    try:
        for item in items:
            yield function(item)
    finally:
        iteration.close(items)


class DatasetIterator(DataIterator):
    """Loops over a Dataset; each loop runs it anew.

    Args:
        dataset: the Dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def _begin(self) -> Generator[pa.Table, None, None]:
        return self._dataset._tables()  # type: ignore[no-any-return]

    def schema(self) -> Schema | None:
        """Return names and types of the columns; see ``Dataset.schema``."""
        return self._dataset.schema()  # type: ignore[no-any-return]

    def stats(self) -> str:
        """Return what the last loop did, for people."""
        return self._dataset.stats()  # type: ignore[no-any-return]

    def get_context(self) -> DataContext:
        """Return the settings."""
        return self._dataset.context  # type: ignore[no-any-return]

    def materialize(self) -> Any:
        """Run now and return the rows as a MaterializedDataset."""
        return self._dataset.materialize()

    def __repr__(self) -> str:
        return f"DataIterator({self._dataset!r})"
