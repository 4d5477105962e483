"""Looking at a data set without its rows, or without running it: schema, counts, sizes, files, text."""

from __future__ import annotations

from typing import Any, NoReturn

from skate.data._left_out import reason, refuse
from skate.data._plan.logical import Blocks, Limit
from skate.data._previews import meant
from skate.data._verbs import facts, printing, running
from skate.data._verbs.checks import flag
from skate.data._verbs.core import Core
from skate.data._verbs.schema import Schema
from skate.data.context import DataContext


class Inspection(Core):
    """Schema, counts, sizes, names, text."""

    def schema(self, fetch_if_missing: bool = True) -> Schema | None:
        """Return names and types of the columns.

        A schema that is not known from files and plan is that of the first block with rows: what makes it,
        runs.
        The answer is remembered.

        Args:
            fetch_if_missing: run the plan, up to its first row, if the schema is not known without.

        Returns:
            The schema; None if there are no rows and nothing says what they would be.

        Example:
            >>> skate.data.range(3).schema().names
            ['id']
        """
        flag("schema", "fetch_if_missing", fetch_if_missing)
        known = facts.known_schema(self._plan)
        if known is None and (fetch_if_missing or "schema" in self._known):
            known = self._once("schema", self._schema_of_first_rows)
        return None if known is None else Schema(known)

    def _schema_of_first_rows(self) -> Any:
        known = None
        with running.run(Limit(self._plan, 1), self._context) as execution:
            for piece in execution:
                found = piece.meta.schema if piece.meta.schema is not None else execution.fetch(piece).schema
                if len(found):
                    known = found
                if piece.num_rows:
                    break
        return None if known is None else known.remove_metadata()

    def columns(self, fetch_if_missing: bool = True) -> list[str] | None:
        """Return the names of the columns; see ``schema``."""
        schema = self.schema(fetch_if_missing)
        return None if schema is None else schema.names

    def count(self, exact: bool = False) -> int:
        """Return the number of rows.

        Operations that give one row for each (``map``, ``sort``, ``with_column``, ...) are not run, and
        neither is
        anything when files or blocks say how many rows there are. The answer is remembered.

        Args:
            exact: run everything, so that an error of a function shows.

        Returns:
            Rows.

        Example:
            >>> skate.data.range(10).map(slow).count()
            10
        """
        if exact:
            return self._counted(self._plan)
        known = facts.known_rows(self._plan)
        if known is not None:
            return known
        count: int = self._once("count", lambda: self._counted(facts.without_row_preserving(self._plan)))
        return count

    def _counted(self, plan: Any) -> int:
        with running.run(plan, self._context, self._watch) as execution:
            return sum(piece.num_rows for piece in execution)

    def size_bytes(self) -> int:
        """Return the bytes in memory: measured for a materialised data set, estimated for files.

        Other plans run once, without keeping rows; the answer is remembered.
        """
        known = facts.known_bytes(self._plan)
        if known is not None:
            return known
        size: int = self._once("size", self._measured)
        return size

    def _measured(self) -> int:
        with running.run(self._plan, self._context, self._watch) as execution:
            return sum(piece.size_bytes for piece in execution)

    def num_blocks(self) -> int:
        """Return the number of blocks of a materialised data set.

        Raises:
            NotImplementedError: the data set is not materialised, so its blocks are not cut yet.
        """
        if isinstance(self._plan, Blocks):
            return len(self._plan.slices)
        raise NotImplementedError(
            "num_blocks() is known once the data set has run: call ds.materialize().num_blocks()"
        )

    def input_files(self) -> list[str]:
        """Return the files that the data set reads, each once."""
        return facts.input_files(self._plan)

    @property
    def context(self) -> DataContext:
        """The settings of this data set; changes hold for its next execution."""
        return self._context

    @property
    def name(self) -> str | None:
        """The name that ``set_name`` gave."""
        return self._name

    def set_name(self, name: str | None) -> None:
        """Give the data set a name, for its text and progress."""
        if name is not None and not isinstance(name, str):
            raise TypeError(f"set_name(name) must be text or None, got {name!r}")
        self._name = name

    def get_dataset_id(self) -> str:
        """Return an id of this data set: ``"foo_<32 hexadecimal digits>"``."""
        return f"{self._name or 'dataset'}_{self._uuid}"

    def __repr__(self) -> str:
        rows = None
        if isinstance(self._plan, Blocks):
            rows = self._once("head", self._head)
        return printing.describe(self._plan, self._name, type(self).__name__, rows)

    def _head(self) -> list[dict[str, Any]]:
        from skate.data._block.rows import iter_rows

        rows: list[dict[str, Any]] = []
        if isinstance(self._plan, Blocks) and self._plan.slices:
            with running.run(Limit(self._plan, printing.SHOWN_ROWS), self._context) as execution:
                for piece in execution:
                    rows.extend(iter_rows(execution.fetch(piece)))
        return rows

    def __str__(self) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        # Without this, ``if ds`` would ask for the length.
        return True

    def __len__(self) -> NoReturn:
        raise AttributeError(
            "a Dataset has no len(), because counting may run it: call ds.count(), which says how many "
            "rows there are"
        )

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "a Dataset is not iterated over directly: call ds.iter_rows() for rows, ds.iter_batches() "
            "for batches"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if reason(name) is not None:
            raise refuse(name)
        # Names with underscores are asked for by copy, notebooks and others, often.
        guess = "" if name.startswith("_") else meant(name, [one for one in dir(self) if one[0] != "_"])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{guess}")
