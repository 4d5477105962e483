"""The benchmarks' adapters for skate.data and multiprocessing come to one result on a few made files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.data import engines, inputs, pipelines
from benchmarks.data.engines import Job, pool, ray_api
from benchmarks.data.pipelines import PIPELINES, Pipeline, Step, Written, written

import skate

SOUND_RATE = 8000


def _photo(number: int) -> bytes:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(number).integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)
    content = io.BytesIO()
    image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def _sound(number: int) -> bytes:
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    samples = np.sin(np.arange(SOUND_RATE + 100 * number) * 0.05)
    content = io.BytesIO()
    soundfile.write(content, samples, SOUND_RATE, format="WAV")
    return content.getvalue()


def _document(number: int) -> bytes:
    pdfium = pytest.importorskip("pypdfium2")
    document = pdfium.PdfDocument.new()
    for _ in range(number % 3 + 1):
        document.new_page(200, 200)
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


class Lengths:
    """In place of a model: how long the column of bytes or text is."""

    def __init__(self, models: str) -> None:
        self.models = models

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        (name,) = (it for it in batch if it in ("pixels", "samples", "text"))
        kept = {it: list(values) for it, values in batch.items() if it != name}
        return {**kept, "length": [len(it) for it in batch[name]]}


def _modelled(name: str) -> Pipeline:
    """The pipeline of that name without steps after its model, which is `Lengths`."""
    first = PIPELINES[name].steps[0]
    columns = {it: kind for it, kind in first.columns.items() if it not in ("pixels", "samples", "text")}
    return Pipeline(name, name, (first, Step("model", Lengths, {**columns, "length": "whole"})))


CASES: dict[str, tuple[Callable[[int], bytes], str, int]] = {
    "photos": (_photo, ".png", 4),
    "audio": (_sound, ".wav", 3),
    "pdf": (_document, ".pdf", 4),
}
"""What makes a good file, its ending, and how many of the four broken ones cannot be read: a cut WAV can."""


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    skate.shutdown()
    yield
    skate.shutdown()


def _files(folder: Path, make: Callable[[int], bytes], ending: str) -> list[str]:
    folder.mkdir()
    paths = []
    for number in range(5):
        path = folder / f"{number}{ending}"
        path.write_bytes(make(number))
        paths.append(str(path))
    return paths + inputs.broken_files(paths, folder / "broken")


def _in_this_process(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    """Let the pool's adapter run in the test's process: its workers know the listed pipelines alone."""

    class Here:
        def __init__(self, workers: int) -> None:
            pass

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *details: object) -> None:
            pass

        def imap_unordered(self, function: Any, work: Any) -> Any:
            return map(function, work)

    context = type("Context", (), {"Pool": Here})
    monkeypatch.setattr("multiprocessing.get_context", lambda name: context)
    monkeypatch.setitem(PIPELINES, pipeline.name, pipeline)


def _result(adapter: Any, job: Job) -> Written:
    adapter.run(job)
    return written(job.output, job.pipeline)


@pytest.mark.parametrize("name", CASES)
def test_skate_and_the_pool_agree(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_cpus: None
) -> None:
    make, ending, broken = CASES[name]
    paths = _files(tmp_path / "in", make, ending)
    pipeline = _modelled(name)
    _in_this_process(monkeypatch, pipeline)
    job = Job(pipeline, paths, "", str(tmp_path / "pool"), 2)
    by_pool = _result(pool.make("pool"), job)
    api = ray_api.RayApi("skate")
    by_skate = _result(api, replace(job, output=str(tmp_path / "skate")))
    assert by_skate.difference(by_pool) == ""
    assert (by_pool.rows, by_pool.errors) == (9, broken)


def test_groups_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_cpus: None) -> None:
    paths = _files(tmp_path / "in", _photo, ".png")
    pipeline = replace(_modelled("photos"), group_by="width")
    _in_this_process(monkeypatch, pipeline)
    job = Job(pipeline, paths, "", str(tmp_path / "pool"), 2)
    by_pool = _result(pool.make("pool"), job)
    by_skate = _result(ray_api.RayApi("skate"), replace(job, output=str(tmp_path / "skate")))
    assert by_skate.difference(by_pool) == ""
    assert by_pool.rows == 2


def test_processes_of_the_pool_agree_with_the_driver(tmp_path: Path) -> None:
    """Spawned processes import the package by its name, as those of a benchmark do."""
    pytest.importorskip("selectolax")
    pytest.importorskip("py3langid")
    paths = _files(tmp_path / "in", lambda number: b"<p>some words of a page %d</p>" % number, ".html")
    job = Job(PIPELINES["text"], paths, "", str(tmp_path / "pool"), 1)
    assert _result(pool.make("pool"), job).errors == 2


def test_another_result_is_named() -> None:
    one = Written(3, 1, 7, 2.0)
    assert one.difference(Written(3, 1, 7, 2.01)) == ""
    assert "checksum" in one.difference(Written(3, 1, 8, 2.0))
    assert "sums to" in one.difference(Written(3, 1, 7, 3.0))


def test_every_step_makes_the_columns_that_it_names(tmp_path: Path) -> None:
    for name, (make, ending, _) in CASES.items():
        step = PIPELINES[name].steps[0]
        for content in (make(1), b"garbage"):
            made = step.function({"path": f"/a/b/c{ending}", "bytes": content})
            for row in [made] if step.kind == "map" else list(made):
                assert list(row) == list(step.columns)
                assert bool(row["error"]) == (content == b"garbage")


def test_engines_have_an_adapter() -> None:
    assert set(engines.ADAPTERS) <= set(engines.NAMES)
    assert pipelines.BATCH > 0
