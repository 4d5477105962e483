"""One schema for all files of a write.

Tasks write their files before all rows are known. A column that has no value in one part of the source and
text in another one, or whole numbers here and fractions there, makes files with different schemas. Most
readers take the first file's for all: pyarrow fails at the second file, or leaves its further columns out;
others refuse them all. So a write looks at the schemas while nothing is visible yet. Files that lack what the
others have are written again with the schema of all; rows that have no common schema end the write as soon as
they are seen, with both places named.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from skate.data._block.errors import SchemaConflictError
from skate.data._block.schemas import first_difference, public_schema, unify_schemas
from skate.data._block.sources import sources
from skate.data._block.tables import concat
from skate.data._io.commit_points import crash_point
from skate.data._io.commit_store import Store
from skate.data._notices import logger
from skate.data.exceptions import SchemaMismatchError

if TYPE_CHECKING:
    from skate.data._io.writers.formats import BlockFormat

#: Files whose schemas are read at a time, and files that are written again at a time: each holds a row group.
_FOOTERS, _WRITTEN_AGAIN = 16, 2

#: A schema, and where rows with it came from, for people.
Origin = tuple[pa.Schema, str]


class Written(NamedTuple):
    """The report of a task of a sink to the driver.

    Attributes:
        result: what the sink's ``write`` returned.
        schemas: the different schemas of its rows.
        schema: of its first block, with or without rows; None: it got none.
    """

    result: Any
    schemas: tuple[Origin, ...]
    schema: pa.Schema | None


class SeenSchemas:
    """The different schemas of rows.

    Attributes:
        origins: each with the first place where it was seen.
        first: of the first block, with or without rows.
    """

    def __init__(self) -> None:
        self.origins: list[Origin] = []
        self.first: pa.Schema | None = None

    def watched(self, blocks: Iterable[pa.Table], task: str) -> Iterator[pa.Table]:
        """Pass blocks of a task on, and take their schemas into account."""
        for number, block in enumerate(blocks):
            if self.first is None:
                self.first = block.schema
            if block.num_rows:
                files = sources(block)
                where = f"rows of {files[0][0]}" if files else f"block {number} of task {task}"
                self.add((public_schema(block.schema), where))
            yield block

    def add(self, origin: Origin) -> bool:
        """Take a schema into account. Return False if one that is equal was seen before."""
        if any(known is origin[0] or known.equals(origin[0]) for known, _ in self.origins):
            return False
        self.origins.append(origin)
        return True

    def check(self, stage: str, on_schema: str) -> None:
        """Check the last schema that was added against the others.

        Args:
            stage: what writes the rows, for the error.
            on_schema: ``DataContext.on_schema``.

        Raises:
            SchemaMismatchError: there is no common schema; or, if ``on_schema`` is ``"error"``, they differ.
        """
        last, here = self.origins[-1]
        for schema, there in self.origins[:-1]:
            found = (
                first_difference(schema, last) if on_schema == "error" else _conflict(schema, last, on_schema)
            )
            if found is None:
                continue
            name, left, right = found
            advice = "No type holds both; make the function or the files agree, or cast the column"
            if on_schema == "error":
                advice = (
                    "DataContext.on_schema is 'error': make the function or the files agree, or set it to "
                    "'unify'"
                )
            raise SchemaMismatchError(
                f"{stage}: the column {name!r} is {left or 'missing'} in {there} and {right or 'missing'} in "
                f"{here}, and all that is written has one schema. {advice}. Nothing of this write is visible."
            )


def _conflict(left: pa.Schema, right: pa.Schema, on_schema: str) -> tuple[str, Any, Any] | None:
    try:
        unify_schemas([left, right], "object" if on_schema == "object" else "error")
    except SchemaConflictError as error:
        return error.column, error.left, error.right
    return None


def make_uniform(
    stage: str,
    store: Store,
    names: Sequence[str],
    form: BlockFormat,
    folder: str,
    on_schema: str,
    sync: bool,
) -> int:
    """Write staged files again whose columns or types are not those of all of them together.

    Args:
        stage: for errors.
        store: has the files.
        names: the files, in the order of their rows.
        form: their format, whose ``schema_of`` and ``tables_of`` read them.
        folder: a folder for files that are not finished, in the staging folder.
        on_schema: ``DataContext.on_schema``.
        sync: the files must survive a power cut.

    Returns:
        How many were written again.

    Raises:
        SchemaMismatchError: they have no common schema, or are to have the same and have not.
    """
    with ThreadPoolExecutor(_FOOTERS, thread_name_prefix="skate-schemas") as pool:
        schemas = list(pool.map(lambda name: form.schema_of(store, name), names))
    seen = SeenSchemas()
    for name, schema in zip(names, schemas, strict=True):
        if seen.add((schema, f"the file {name.rpartition('/')[2]}")):
            seen.check(stage, on_schema)
    target = unify_schemas(
        [schema for schema, _ in seen.origins], "object" if on_schema == "object" else "error"
    )
    others = [
        name
        for name, schema in zip(names, schemas, strict=True)
        if first_difference(_narrow(schema), _narrow(target)) is not None
    ]
    if others:
        store.make_folder(folder)

    def write_again(name: str) -> None:
        _write_again(store, name, form, f"{folder}/{uuid.uuid4().hex}", target, sync)

    with ThreadPoolExecutor(_WRITTEN_AGAIN, thread_name_prefix="skate-schemas") as pool:
        for number, _ in enumerate(pool.map(write_again, others)):
            if number == 0:
                crash_point("files_made_uniform")
    if others:
        logger.info(
            "%s: %d of %d files were written again with the columns and types of all; a function that gives "
            "every row the same ones saves that.",
            stage,
            len(others),
            len(names),
        )
    return len(others)


def _write_again(
    store: Store, name: str, form: BlockFormat, temporary: str, target: pa.Schema, sync: bool
) -> None:
    with store.open(temporary) as stream:
        writer = form.open_writer(stream, target, name)
        try:
            for table in form.tables_of(store, name):
                writer.write(concat([target.empty_table(), table]))
        except BaseException:
            writer.abandon()
            raise
        writer.close()
    if sync:
        store.sync(temporary)
    store.rename(temporary, name)
    if sync:
        store.sync(name.rpartition("/")[0])


def _narrow(schema: pa.Schema) -> pa.Schema:
    """Return a schema in which large columns have the types of small ones: in files they are the same."""
    fields = []
    for field in schema:
        if pa.types.is_large_string(field.type):
            field = field.with_type(pa.string())
        elif pa.types.is_large_binary(field.type):
            field = field.with_type(pa.binary())
        elif pa.types.is_large_list(field.type):
            field = field.with_type(pa.list_(field.type.value_field))
        fields.append(field)
    return pa.schema(fields)
