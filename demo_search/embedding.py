"""The model: WordLlama, 256 numbers for each text, whose weights and tokenizer are inside its wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from demo.errors import DemoError
from numpy.typing import NDArray

PACKAGE = "wordllama"


def describe() -> str:
    """Name the model for the header; raise DemoError if it is not installed, before any work starts."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise DemoError(f"the model needs the package {PACKAGE}: pip install -e '.[demo-search]'")
    return f"WordLlama, 256 numbers a text, from {PACKAGE} {importlib.metadata.version(PACKAGE)}"


class Embedder:
    """A loaded model."""

    def __init__(self) -> None:
        # Imported here, not above: only processes that embed pay for it.
        import wordllama

        # It looks for its files in a cache, and downloads what it does not find there.
        self._model: Any = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, disable_download=True
        )

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Return a vector of length 1 for each text: the product of two says how alike their texts are."""
        vectors: NDArray[np.float32] = self._model.embed(texts, norm=True)
        return vectors

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add a column of vectors; a title helps to tell what a chunk is about."""
        titles, texts = batch["title"].to_pylist(), batch["text"].to_pylist()
        vectors = self.embed([f"{title}. {text}" for title, text in zip(titles, texts, strict=True)])
        column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
        return batch.append_column("vector", column)
