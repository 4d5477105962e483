"""The two pipelines: from documents to an index, and from a question to the chunks that answer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from demo.errors import DemoError

import skate
import skate.data
from demo_search.embedding import Embedder

INDEX_NAME = "index"
PLOT_NAME = "run.svg"
#: A chunk is what an answer shows. The last one of a page may have a quarter more.
WORDS_PER_CHUNK = 128
#: The least part of runs of five words that two chunks have in common for one of them to be dropped.
ALIKE = 0.7


@dataclass(frozen=True)
class Built:
    """What an index was made of."""

    chunks: int
    #: Chunks that are left without near duplicates.
    kept: int
    #: Documents that could not be read, and why.
    unreadable: list[tuple[str, str]]
    #: What limited the run, in a sentence.
    why: str


@dataclass(frozen=True)
class Answer:
    """A chunk that may answer a question."""

    path: str
    title: str
    #: From 1; None in HTML.
    page: int | None
    text: str
    #: How much it is about the same: 1 is the most.
    score: float


def build(documents: Sequence[str], workers: int, out: Path) -> Built:
    """Make an index of documents; one that is there is replaced when the new one is complete."""
    try:
        skate.init(num_cpus=max(workers, 2), log_to_driver=False)
        chunks = _pages(documents).flat_map(cut).materialize()
        index = chunks.near_duplicates("text", ALIKE).map_batches(
            Embedder,
            batch_size=256,
            batch_format="pyarrow",
            num_cpus=1,
            compute=skate.data.ActorPoolStrategy(size=workers),
        )
        index.write_parquet(str(out / INDEX_NAME), mode="overwrite")
        index.plot_run(out / PLOT_NAME)
        unreadable = [(letter["path"], letter["error"]) for letter in chunks.dead_letters().iter_rows()]
        kept = skate.data.read_parquet(str(out / INDEX_NAME)).count()
        return Built(chunks.count(), kept, unreadable, index.why().text)
    finally:
        skate.shutdown()


def ask(question: str, out: Path, count: int) -> list[Answer]:
    """Return the chunks of the index that are closest to a question, the closest first."""
    folder = out / INDEX_NAME
    if not any(folder.glob("*.parquet")):
        raise DemoError(f"there is no index in {out} yet")
    [wanted] = Embedder().embed([question])

    def score(batch: pa.Table) -> pa.Table:
        vectors = batch["vector"].combine_chunks().flatten().to_numpy().reshape(-1, len(wanted))
        return batch.drop_columns("vector").append_column("score", pa.array(vectors @ wanted))

    scored = skate.data.read_parquet(str(folder)).map_batches(score, batch_format="pyarrow")
    best = scored.sort("score", descending=True)
    return [Answer(**row) for row in best.take(count)]


def cut(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Cut a page into chunks of some words each."""
    words = row["text"].split()
    starts = range(0, len(words), WORDS_PER_CHUNK)
    if len(starts) > 1 and len(words) - starts[-1] <= WORDS_PER_CHUNK // 4:
        starts = starts[:-1]
    for start in starts:
        stop = len(words) if start == starts[-1] else start + WORDS_PER_CHUNK
        page = row.get("page")
        yield {
            "path": row["path"],
            "title": " ".join((row.get("title") or "").split()),
            "page": None if page is None else page + 1,
            "text": " ".join(words[start:stop]),
        }


def _pages(documents: Sequence[str]) -> skate.data.Dataset:
    """Return the pages of all documents; nothing runs yet."""
    html = [path for path in documents if ".htm" in Path(path).name]
    pdf = [path for path in documents if path not in set(html)]
    found = []
    if html:
        found.append(skate.data.read_html(html, include_paths=True, on_error="dead_letter"))
    if pdf:
        found.append(
            skate.data.read_pdf(pdf, file_extensions=None, include_paths=True, on_error="dead_letter")
        )
    return found[0].union(*found[1:])
