"""Dropping rows that are equal, or nearly so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skate.data._operators.exchanges.duplicates import DropDuplicates
from skate.data._operators.exchanges.near_duplicates import NearDuplicates
from skate.data._options import column_name, column_names
from skate.data._plan.logical import Exchanged
from skate.data._verbs.checks import number, text_or_none
from skate.data._verbs.core import Core, check_columns

if TYPE_CHECKING:
    from typing_extensions import Self


class Duplicates(Core):
    """``drop_duplicates``, ``near_duplicates``."""

    def drop_duplicates(self, on: str | Sequence[str] | None = None) -> Self:
        """Return the first row of all that are equal in some columns.

        Args:
            on: a column or several; None: all. Nulls are equal to each other.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: no such column.

        Example:
            >>> ds.drop_duplicates("sha256")
        """
        names = None if on is None else column_names("drop_duplicates", "on", on)
        if names is not None:
            if not names:
                raise ValueError("drop_duplicates(on=) needs a column, or None for all columns")
            check_columns(self, "drop_duplicates", names)
        return self._over(Exchanged((self._plan,), DropDuplicates(names)))

    def near_duplicates(
        self,
        column: str,
        threshold: float = 0.8,
        *,
        kind: str = "text",
        distance: int = 4,
        mark: str | None = None,
    ) -> Self:
        """Return the first row of each set of rows whose texts or pictures are alike.

        Rows are alike if a chain of similar rows connects them. Rows without a value are like no other.

        Args:
            column: the texts or pictures.
            threshold: for texts: the least part, from 0 to 1, of runs of five words that two have in common.
            kind: ``"text"`` or ``"image"``.
            distance: for pictures: the most bits, from 0 to 63, in which their hashes differ.
            mark: keep all rows, and add a column of this name with the number of the first row like it; null
                in rows that would be kept.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: no such column, an unknown kind, or a number out of range.

        Example:
            >>> pages.near_duplicates("text", 0.9)
        """
        check_columns(self, "near_duplicates", [column_name("near_duplicates", "column", column)])
        number("near_duplicates", "threshold", threshold)
        number("near_duplicates", "distance", distance)
        text_or_none("near_duplicates", "mark", mark)
        exchange = NearDuplicates(column, kind, threshold, distance, mark)
        return self._over(Exchanged((self._plan,), exchange))
