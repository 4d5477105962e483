"""Rows that are made once and kept in files, under a name that changes with the plan."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skate.data._io.commit import SaveMode
from skate.data._io.datasource import Datasource
from skate.data._io.plain_data import plain
from skate.data._operators.functions import UserFunction
from skate.data._operators.identity import identity, is_known
from skate.data._options import check_type
from skate.data._plan.logical import Apply, Blocks, Exchanged, Node, Read
from skate.data._verbs import facts, write_runs
from skate.data._verbs.core import Core
from skate.data.expressions import Expr

if TYPE_CHECKING:
    from typing_extensions import Self


class Caching(Core):
    """``cache``."""

    def cache(self, folder: str | os.PathLike[str]) -> Self:
        """Run the data set now and keep its rows as Parquet files, unless an earlier program did so.

        Where the rows are is a name below the folder, made of the plan: files with their sizes and times of
        change, operations, options, and the source of functions and classes with the values that they close
        over. If any of it changes, the rows are made anew; old ones stay until you delete them. Changes of
        what a function calls, of values of its module, and of libraries are not seen. A run that was killed
        goes on where it was, if the plan reads, maps and filters only.

        Args:
            folder: for all that is kept: a path or a URL.

        Returns:
            A Dataset that reads the files.

        Raises:
            ValueError: what the rows are made of cannot be compared: blocks in shared memory, a datasource
                without ``fingerprint``, a function that cannot be pickled.

        Example:
            >>> decoded = skate.data.read_images("photos").map(decode).cache("/tmp/photos-cache")
            >>> decoded.count()  # the next program does not decode
        """
        from skate.data._io.readers.parquet import ParquetDatasource
        from skate.data._io.writers.parquet import ParquetSink

        check_type("cache(folder)", folder, (str, os.PathLike), "a path or a URL")
        made_of = json.dumps([_described(self._plan), self._context.on_schema], sort_keys=True)
        name = hashlib.blake2b(made_of.encode(), digest_size=16).hexdigest()
        path = f"{os.fspath(folder).rstrip('/')}/{name}"
        if all(isinstance(node, (Read, Apply)) for node in facts.nodes(self._plan)):
            sink = ParquetSink(path, resume=True)
        else:
            sink = ParquetSink(path, mode=SaveMode.IGNORE)
        write_runs.write(self, "cache", sink)
        return self._over(Read(ParquetDatasource(path)))


def _described(node: Node) -> list[Any]:
    """Return plain data that changes when a plan would make other rows.

    Raises:
        ValueError: that cannot be known.
    """
    return [type(node).__name__, _own(node), [_described(one) for one in node.inputs]]


def _own(node: Node) -> Any:
    if isinstance(node, Read):
        if type(node.source).fingerprint is Datasource.fingerprint:
            raise ValueError(
                f"cache: it is not known when {node.name} reads other rows. Define fingerprint() in its "
                "class: plain data that changes with them"
            )
        return plain(node.source.fingerprint())
    if isinstance(node, Blocks):
        return [_digest(piece.block, node) for piece in node.slices]
    if isinstance(node, Exchanged):
        return _hash(node.exchange, node)
    if isinstance(node, Apply):
        _check(vars(node.operator), node)
        return plain(write_runs.key_of(node.operator))
    return plain(write_runs.key_of(node))


def _hash(value: Any, node: Node) -> str:
    found = identity(value)
    if not is_known(found):
        raise _unknown(node)
    return hashlib.blake2b(found, digest_size=16).hexdigest()


def _check(value: Any, node: Node) -> None:
    """Raise ValueError if the key of an operator's attribute would not change with its functions."""
    if isinstance(value, UserFunction):
        if not value.has_key():
            raise _unknown(node)
    elif isinstance(value, Expr):
        value.key(lambda function: _hash(function, node))
    elif isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            _check(one, node)


def _unknown(node: Node) -> ValueError:
    return ValueError(
        f"cache: a function of {node.name} uses what cannot be pickled, so its changes would not be seen. "
        "Make that inside the function, or use write_parquet() with a name of your own"
    )


def _digest(block: Any, node: Node) -> str:
    if not isinstance(block, pa.Table):
        raise ValueError(
            f"cache: the rows of {node.name} are in shared memory already. Call cache() instead of "
            "materialize(), or write_parquet() with a name of your own"
        )
    found = hashlib.blake2b(digest_size=16)
    with pa.ipc.new_stream(pa.PythonFile(_Hashing(found), "w"), block.schema) as writer:
        writer.write_table(block)
    return found.hexdigest()


class _Hashing:
    """A file that gives what is written to a hash."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest
        self._size = 0

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._digest.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return the bytes so far."""
        return self._size

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
