"""Texts of errors: advice where it helps, one dot at the end of a sentence, the same text for the same fault."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import skate.data
from skate.data.datasource import FileReadError

#: Files that are none, by the reader; several decoders end their texts with a dot.
BROKEN: dict[str, tuple[str, bytes]] = {
    "read_parquet": ("a.parquet", b"x" * 100),
    "read_pdf": ("a.pdf", b"%PDF-1.4 x"),
    "read_images": ("a.png", b"x"),
    "read_json": ("a.json", b'{"a":'),
    "read_numpy": ("a.npy", b"xx"),
    "read_audio": ("a.wav", b"x"),
    "read_videos": ("a.mp4", b"x"),
    "read_csv": ("a.csv", b"a,b\n1\n"),
    "read_tfrecords": ("a.tfrecords", b"xxxx"),
    "read_webdataset": ("a.tar", b"xxx"),
    "read_text": ("a.txt", b"\xff\xfe"),
}
ADVICE = "Pass on_error='skip' or 'dead_letter' to go on without such files."


@pytest.mark.parametrize("verb", BROKEN)
def test_a_file_that_cannot_be_read(tmp_path: Path, verb: str) -> None:
    name, data = BROKEN[verb]
    path = tmp_path / name
    path.write_bytes(data)
    read = getattr(skate.data, verb)
    with pytest.raises(FileReadError) as raised:
        read(str(path)).materialize()
    text = str(raised.value)
    text = text[text.rindex("cannot read") :]  # an error of a worker has a traceback before it
    assert text.startswith(f"cannot read {path}: ") and text.endswith(f". {ADVICE}")
    assert not re.search(r"\.\.|\.;? ?\. | at 0x", text), text
    # With the option there is nothing to pass, and equal faults have equal texts: they are counted by these.
    (letter,) = read(str(path), on_error="dead_letter").materialize().dead_letters().take_all()
    assert letter["error"].startswith(f"FileReadError: cannot read {path}: ")
    assert "on_error" not in letter["error"]
    assert not re.search(r"\.\.|\.$| at 0x", letter["error"])


def test_a_file_error_travels_as_it_is() -> None:
    for error in (FileReadError("a", "it is cut."), FileReadError("a", "it is cut").ending()):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(FileReadError("a", "it is cut.")) == "cannot read a: it is cut"


def test_advice_is_given_where_there_is_such_an_option() -> None:
    def fail(data: Any) -> Any:
        raise ValueError("no.")

    rows = skate.data.from_items([{"k": 1}])
    for run in (lambda: rows.map(fail), lambda: rows.map_batches(fail), lambda: rows.filter(fail)):
        with pytest.raises(ValueError, match='use on_error="dead_letter"; to leave them out') as raised:
            run().take_all()
        assert ".." not in str(raised.value)
    with pytest.raises(ValueError, match="no") as raised:
        rows.groupby("k").map_groups(fail).take_all()
    assert "map_groups" in str(raised.value).lower() or "MapGroups" in str(raised.value)
    assert "on_error" not in str(raised.value)


def test_a_filesystem_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="Pass filesystem=") as raised:
        skate.data.read_text("nothing://a/b")
    assert ".." not in str(raised.value)
