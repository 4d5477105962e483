"""The pipelines as lists of steps, and the check of what an engine wrote."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.data import kernels

ColumnType = Literal["text", "whole", "real", "bytes", "wholes"]
"""`wholes`: a list of whole numbers."""

BATCH = 16
"""Rows in a call of a model."""


@dataclass(frozen=True)
class Step:
    """One function of a pipeline and the columns that it makes, in order."""

    kind: Literal["map", "flat_map", "model"]
    function: Any
    """Of a row for `map` and `flat_map`; for `model` a class, made with the folder of models, of a batch."""
    columns: dict[str, ColumnType]


@dataclass(frozen=True)
class Pipeline:
    """What happens to the files of one kind, which are read as rows of `path` and `bytes`."""

    name: str
    inputs: str
    steps: tuple[Step, ...]
    inexact: tuple[str, ...] = ()
    """Columns that depend in their last digits on which rows a model saw together."""
    group_by: str | None = None
    """Instead of the rows, how many there are of each value of this column is written."""


PHOTO: dict[str, ColumnType] = {
    "path": "text",
    "width": "whole",
    "height": "whole",
    "dhash": "whole",
    "pixels": "bytes",
    "error": "text",
}
UPRIGHT: dict[str, ColumnType] = {
    "path": "text",
    "width": "whole",
    "height": "whole",
    "dhash": "whole",
    "error": "text",
    "turn": "whole",
    "sure": "real",
}
CHUNK: dict[str, ColumnType] = {
    "path": "text",
    "pages": "whole",
    "chunk": "whole",
    "text": "text",
    "error": "text",
}
EMBEDDED: dict[str, ColumnType] = {
    "path": "text",
    "pages": "whole",
    "chunk": "whole",
    "error": "text",
    "characters": "whole",
    "embedding": "bytes",
}
SOUND: dict[str, ColumnType] = {"path": "text", "ms": "whole", "samples": "bytes", "error": "text"}
SPEECH: dict[str, ColumnType] = {
    "path": "text",
    "ms": "whole",
    "error": "text",
    "starts": "wholes",
    "ends": "wholes",
}
SEGMENT: dict[str, ColumnType] = {
    "path": "text",
    "ms": "whole",
    "start": "whole",
    "end": "whole",
    "error": "text",
}
PAGE: dict[str, ColumnType] = {
    "path": "text",
    "language": "text",
    "characters": "whole",
    "words": "whole",
    "bands": "wholes",
    "error": "text",
}

_PHOTOS = (Step("map", kernels.photo, PHOTO), Step("model", kernels.Upright, UPRIGHT))
_PAGES = (Step("map", kernels.page, PAGE),)

PIPELINES = {
    it.name: it
    for it in (
        Pipeline("photos", "photos", _PHOTOS, inexact=("turn", "sure")),
        Pipeline("photos_groups", "photos", _PHOTOS, group_by="dhash"),
        Pipeline(
            "pdf",
            "pdf",
            (Step("flat_map", kernels.pdf_first_chunk, CHUNK), Step("model", kernels.MiniLm, EMBEDDED)),
            inexact=("embedding",),
        ),
        Pipeline(
            "pdf_static",
            "pdf",
            (Step("flat_map", kernels.pdf_forty_chunks, CHUNK), Step("model", kernels.WordLlama, EMBEDDED)),
            inexact=("embedding",),
        ),
        Pipeline(
            "audio",
            "audio",
            (
                Step("map", kernels.sound, SOUND),
                Step("model", kernels.Speech, SPEECH),
                Step("flat_map", kernels.segments, SEGMENT),
            ),
        ),
        Pipeline("text", "text", _PAGES),
        Pipeline("text_groups", "text", _PAGES, group_by="language"),
    )
}

STRICT: dict[Callable[..., Any], Callable[..., Any]] = {
    kernels.photo: kernels.photo_strictly,
    kernels.sound: kernels.sound_strictly,
    kernels.page: kernels.page_strictly,
}
"""For functions that write what failed into a column, those that raise it."""


@dataclass(frozen=True)
class Written:
    """What a pipeline left in its folder. Equal on every engine, `inexact` but for rounding."""

    rows: int
    errors: int
    checksum: int
    """Of the exact columns of all rows, whatever their order."""
    inexact: float
    """Sum of the columns that depend on the composition of batches."""

    def difference(self, other: Written) -> str:
        """Why the two are not the same result, or nothing."""
        if (self.rows, self.errors, self.checksum) != (other.rows, other.errors, other.checksum):
            return (
                f"{self.rows} rows, {self.errors} errors, checksum {self.checksum:016x} instead of "
                f"{other.rows}, {other.errors}, {other.checksum:016x}"
            )
        if abs(self.inexact - other.inexact) > 0.02 * max(abs(self.inexact), abs(other.inexact), 1.0):
            return f"what the model answered sums to {self.inexact:.6g} instead of {other.inexact:.6g}"
        return ""


def written(folder: str, pipeline: Pipeline) -> Written:
    """Read what was written and sum it up."""
    import glob

    import numpy as np
    import pyarrow.parquet as pq

    names = _written_columns(pipeline)
    exact = sorted(name for name in names if name not in pipeline.inexact)
    rows = errors = checksum = 0
    inexact = 0.0
    for path in sorted(glob.glob(f"{folder}/**/*.parquet", recursive=True)):
        table = pq.ParquetFile(path).read()
        if pipeline.group_by is not None:
            (count,) = (name for name in table.column_names if name != pipeline.group_by)
            table = table.rename_columns(["count" if name == count else name for name in table.column_names])
        columns = {name: table.column(name).to_pylist() for name in names}
        rows += table.num_rows
        errors += sum(bool(error) for error in columns.get("error", ()))
        for values in zip(*(columns[name] for name in exact), strict=True):
            checksum += zlib.crc32(repr(values).encode()) * 2_654_435_761
        for name in pipeline.inexact:
            for value in columns[name]:
                inexact += (
                    float(np.abs(np.frombuffer(value, np.float32)).sum())
                    if isinstance(value, bytes)
                    else value
                )
    return Written(rows, errors, checksum % 2**64, inexact)


def _written_columns(pipeline: Pipeline) -> list[str]:
    if pipeline.group_by is not None:
        return [pipeline.group_by, "count"]
    return list(pipeline.steps[-1].columns)
