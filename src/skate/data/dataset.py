"""``Dataset``: a table that is larger than memory, and what is done to it. Assembled from ``_verbs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate.data._verbs.aggregation import Aggregation
from skate.data._verbs.caching import Caching
from skate.data._verbs.calling import Calling
from skate.data._verbs.columns import AddColumn, Columns
from skate.data._verbs.combination import Combination
from skate.data._verbs.consumption import Consumption
from skate.data._verbs.conversion import Conversion, RefBundle
from skate.data._verbs.core import Core
from skate.data._verbs.duplicates import Duplicates
from skate.data._verbs.execution_facts import ExecutionFacts
from skate.data._verbs.inspection import Inspection
from skate.data._verbs.loops import Loops
from skate.data._verbs.ordering import Ordering
from skate.data._verbs.sampling import Sampling
from skate.data._verbs.schema import Schema
from skate.data._verbs.splitting import Splitting
from skate.data._verbs.transformation import Transformation
from skate.data._verbs.watching import Watching
from skate.data._verbs.writing import Writing

__all__ = ["Dataset", "MaterializedDataset", "RefBundle", "Schema"]


class Dataset(
    Transformation,
    Columns,
    Combination,
    Ordering,
    Sampling,
    Duplicates,
    Aggregation,
    Consumption,
    Loops,
    Splitting,
    Conversion,
    Calling,
    Caching,
    Writing,
    ExecutionFacts,
    Watching,
    Inspection,
):
    """A table that is larger than memory, made when it is needed.

    ``skate.data.read_*``, ``from_*`` and ``range`` make it. Operations return a new Dataset and run nothing;
    ``take``, ``iter_batches``, ``write_parquet``, ``materialize``, ... run it. It can be pickled, and used in
    tasks and actors.

    Example:
        >>> ds = skate.data.range(1000).map_batches(lambda batch: {"square": batch["id"] ** 2})
        >>> ds.take(2)
        [{'square': 0}, {'square': 1}]
    """

    @staticmethod
    def _dataset_class() -> type[Core]:
        return Dataset

    @staticmethod
    def _materialized_class() -> type[Core]:
        return MaterializedDataset

    def _added(self, col: str, fn: Any, batch_format: str | None, more: Mapping[str, Any]) -> Dataset:
        return self.map_batches(AddColumn(col, fn, batch_format), batch_format="pyarrow", **more)

    @staticmethod
    def copy(ds: Dataset, _deep_copy: bool = False, _as: type[Dataset] | None = None) -> Dataset:
        """Return another Dataset with the same plan; it shares no name and nothing that was found out.

        Args:
            ds: the data set.
            _deep_copy: copy the settings too.
            _as: the class of the copy.
        """
        context = ds.context.copy() if _deep_copy else ds.context
        return (_as or type(ds))(ds._plan, context)


class MaterializedDataset(Dataset):
    """A Dataset whose blocks are in shared memory, or in this process; ``Dataset.materialize`` makes it."""

    def num_blocks(self) -> int:
        """Return the number of blocks."""
        return super().num_blocks()
