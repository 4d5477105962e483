"""The order of rows and how they are cut into blocks: sort, shuffle, repartition, limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skate.data._block.kernels.sorting import sort_keys
from skate.data._operators.exchanges.repartition import HashRepartition, Repartition
from skate.data._operators.exchanges.sort import Sort, check_boundaries
from skate.data._options import column_names
from skate.data._plan.logical import Exchanged, Limit
from skate.data._verbs import facts
from skate.data._verbs import resources as options
from skate.data._verbs.checks import count_or_none, flag, listed, whole_number
from skate.data._verbs.core import Core, check_columns
from skate.data._verbs.randomness import BlockOrder, Seed, shuffle_of
from skate.data.seeds import RandomSeedConfig

if TYPE_CHECKING:
    from typing_extensions import Self


class Ordering(Core):
    """``limit``, ``sort``, ``random_shuffle``, ``repartition``."""

    def limit(self, limit: int) -> Self:
        """Return the first rows; what makes the others does not run.

        Args:
            limit: how many rows at most; below 0 counts as 0.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            TypeError: the limit is no number.
        """
        return self._over(Limit(self._plan, max(0, whole_number("limit", "limit", limit))))

    def sort(
        self,
        key: str | Sequence[str],
        descending: bool | Sequence[bool] = False,
        boundaries: Sequence[Any] | None = None,
    ) -> Self:
        """Return the rows in the order of one or several columns.

        Equal rows keep their order. Nulls come last in both directions, NaN right before them.

        Args:
            key: a column, or several.
            descending: from large to small; one for all columns, or one for each.
            boundaries: ascending values of the first column at which the output is cut into blocks.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: no such column, no key, or as many directions as there are not columns.

        Example:
            >>> ds.sort(["city", "price"], descending=[False, True])
        """
        if key is None:
            raise ValueError("sort(key) needs a column or a list of columns, got None")
        directions: bool | list[bool]
        if isinstance(descending, (list, tuple)):
            directions = [flag("sort", "descending", one) for one in descending]
        else:
            directions = flag("sort", "descending", descending)
        keys = sort_keys(column_names("sort", "key", key), directions)
        check_columns(self, "sort", [one.name for one in keys])
        cuts = None if boundaries is None else tuple(listed("sort", "boundaries", boundaries, "values"))
        schema = facts.known_schema(self._plan)
        if cuts and schema is not None:
            check_boundaries(schema.field(keys[0].name).type, keys[0], cuts)
        return self._over(Exchanged((self._plan,), Sort(keys, cuts)))

    def random_shuffle(
        self,
        *,
        seed: int | RandomSeedConfig | None = None,
        num_blocks: int | None = None,
        **ray_remote_args: Any,
    ) -> Self:
        """Return all rows in a random order.

        Args:
            seed: the same seed gives the same order, whatever the number of workers. None: another order in
                each
                execution.
            num_blocks: the old spelling of a following ``repartition(num_blocks)``.
            ray_remote_args: options of its tasks in the old spelling.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: a seed that is no whole number of at least 0.
        """
        if num_blocks is not None:
            raise DeprecationWarning(
                "random_shuffle(num_blocks=) is not supported any more: call repartition(num_blocks) after it"
            )
        options.free_args("random_shuffle", ray_remote_args)
        stage = options.resources("random_shuffle", free=ray_remote_args)
        return self._over(Exchanged((self._plan,), shuffle_of(seed), stage))

    def _shuffled(self, seed: Any) -> Self:
        return self.random_shuffle(seed=seed)

    def randomize_block_order(self, *, seed: int | RandomSeedConfig | None = None) -> Self:
        """Return the blocks in a random order; rows within a block keep theirs.

        It is cheap and mixes little: for a real shuffle see ``random_shuffle``.

        Args:
            seed: the same seed gives the same order. None: another order in each execution.

        Returns:
            A Dataset; nothing runs yet.
        """
        return self._over(Exchanged((self._plan,), BlockOrder(Seed.of(seed))))

    def repartition(
        self,
        num_blocks: int | None = None,
        target_num_rows_per_block: int | None = None,
        *,
        strict: bool = False,
        shuffle: bool = False,
        keys: Sequence[str] | str | None = None,
        sort: bool = False,
    ) -> Self:
        """Return the same rows in other blocks.

        Args:
            num_blocks: number of blocks, of equal rows; the order is kept.
            target_num_rows_per_block: larger blocks are cut; smaller ones stay unless ``strict``.
            strict: with ``target_num_rows_per_block``: all blocks but the last have exactly so many rows.
            shuffle: also put the rows in a random order.
            keys: columns; rows that are equal in them come into the same block.
            sort: with ``keys``: sort the rows of each block by them.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: neither or both numbers are given, or options exclude each other.

        Example:
            >>> ds.repartition(100)
        """
        for option, switch in (("strict", strict), ("shuffle", shuffle), ("sort", sort)):
            flag("repartition", option, switch)
        if keys is not None:
            if target_num_rows_per_block is not None or shuffle:
                raise ValueError(
                    "repartition(keys=) goes with num_blocks= and sort=, not with "
                    "target_num_rows_per_block= or shuffle="
                )
            names = column_names("repartition", "keys", keys)
            check_columns(self, "repartition", names)
            count_or_none("repartition", "num_blocks", num_blocks)
            return self._over(Exchanged((self._plan,), HashRepartition(names, num_blocks, sort)))
        if (num_blocks is None) == (target_num_rows_per_block is None):
            given = "neither" if num_blocks is None else "both"
            raise ValueError(
                f"repartition() takes either num_blocks or target_num_rows_per_block, and {given} of them "
                f"were given"
            )
        for option, value in (
            ("num_blocks", num_blocks),
            ("target_num_rows_per_block", target_num_rows_per_block),
        ):
            count_or_none("repartition", option, value)
        if sort:
            raise ValueError("repartition(sort=True) needs keys=")
        if shuffle:
            if num_blocks is None:
                raise ValueError("repartition(shuffle=True) goes with num_blocks=")
            return self._over(Exchanged((self._plan,), shuffle_of(None, num_blocks)))
        if strict and target_num_rows_per_block is None:
            raise ValueError("repartition(strict=True) goes with target_num_rows_per_block=")
        return self._over(
            Exchanged((self._plan,), Repartition(num_blocks, target_num_rows_per_block, strict))
        )
