"""The Parquet file: one row for each picture, with the text, where it stands, and how sure the model is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from demo.errors import DemoError
from demo.readings import Line, Reading

TABLE_NAME = "pictures.parquet"

_LINE = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("box", pa.list_(pa.list_(pa.float64(), 2), 4), nullable=False),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("lines", pa.list_(_LINE), nullable=False),
        pa.field("error", pa.string()),
    ]
)


def prepare_folder(folder: Path) -> None:
    """Create the output folder and prove that files can be written there, before hours of work go in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DemoError(f"cannot write to the output folder {folder}: {error.strerror or error}") from error


def save(readings: Iterable[Reading], folder: Path) -> Path:
    """Write the table in one step: an earlier one stays whole until the new one is complete."""
    rows = [
        {
            "path": reading.path,
            "width": reading.width,
            "height": reading.height,
            "text": reading.text,
            "lines": [
                {"text": line.text, "confidence": line.confidence, "box": line.box} for line in reading.lines
            ],
            "error": reading.error,
        }
        for reading in readings
    ]
    target = folder / TABLE_NAME
    unfinished = folder / f".{TABLE_NAME}.{os.getpid()}"
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), unfinished)
        unfinished.replace(target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise DemoError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def load(folder: Path) -> list[Reading]:
    """Read the table back; raise DemoError if there is none."""
    target = folder / TABLE_NAME
    if not target.is_file():
        raise DemoError(
            f"there is no {TABLE_NAME} in {folder} yet: run `python -m demo` first, or name --out"
        )
    try:
        rows = pq.read_table(target, schema=SCHEMA).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DemoError(f"cannot read {target}: {error}") from error
    return [
        Reading(
            path=row["path"],
            width=row["width"],
            height=row["height"],
            lines=tuple(
                Line(line["text"], line["confidence"], tuple((x, y) for x, y in line["box"]))
                for line in row["lines"]
            ),
            error=row["error"],
        )
        for row in rows
    ]
