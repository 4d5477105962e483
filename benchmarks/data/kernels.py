"""What the pipelines do to a row or a batch: plain functions and classes that know no engine.

A row is a dict, a batch a dict of columns. Functions catch what broken files raise and write it into the
column `error`, because not every engine goes on after an exception. A column is of a type that every engine
has: text, whole number, float, bytes, or a list of whole numbers; pixels, samples and embeddings are bytes.
Libraries are imported where they are used, so that a pipeline pays for its own alone.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Batch = Mapping[str, Sequence[Any]]

SAMPLE_RATE = 16_000
CHUNK_WORDS = 128
MINHASHES, BANDS, SHINGLE_WORDS = 128, 16, 5


def name_of(path: str) -> str:
    """The last three parts: engines differ in how they spell what is before them."""
    return "/".join(path.split("/")[-3:])


def what_failed(error: Exception) -> str:
    return type(error).__name__


def refuse_empty(content: bytes) -> None:
    """Raise ValueError for a file without a byte, which some parsers take for a document."""
    if not content:
        raise ValueError("the file is empty")


# Photos


def photo_strictly(row: Row) -> Row:
    """Decode, shrink, and hash by differences of neighbouring pixels; raises what the decoder raises."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(row["bytes"])) as image:
        width, height = image.size
        image.draft("RGB", (512, 512))
        small = image.convert("RGB")
    small.thumbnail((256, 256))
    grey = np.asarray(small.convert("L").resize((9, 8)), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes()
    return {
        "path": name_of(row["path"]),
        "width": width,
        "height": height,
        "dhash": int.from_bytes(bits, "big", signed=True),
        "pixels": small.resize((224, 224)).tobytes(),
        "error": "",
    }


def photo(row: Row) -> Row:
    """As `photo_strictly`; what it raises becomes the `error` of a row without pixels."""
    try:
        return photo_strictly(row)
    except Exception as error:
        empty = {"width": 0, "height": 0, "dhash": 0, "pixels": b""}
        return {"path": name_of(row["path"]), **empty, "error": what_failed(error)}


class Upright:
    """Which of four ways a picture is turned (PP-LCNet, 224 x 224), and how sure that is."""

    MODEL = "orientation"

    def __init__(self, models: str) -> None:
        self._session = _onnx(models, self.MODEL)

    def __call__(self, batch: Batch) -> dict[str, list[Any]]:
        import numpy as np

        pixels = list(batch["pixels"])
        kept = {name: list(values) for name, values in batch.items() if name != "pixels"}
        turns, sure = [-1] * len(pixels), [0.0] * len(pixels)
        there = [place for place, content in enumerate(pixels) if content]
        if there:
            images = np.stack([np.frombuffer(pixels[place], np.uint8) for place in there])
            images = images.reshape(-1, 224, 224, 3).transpose(0, 3, 1, 2).astype(np.float32)
            scaled = (images / 255 - 0.45) / 0.225
            (answers,) = self._session.run(None, {"x": scaled.astype(np.float32)})
            for place, answer in zip(there, answers, strict=True):
                turns[place], sure[place] = int(answer.argmax()), float(answer.max())
        return {**kept, "turn": turns, "sure": sure}


# PDF


def pdf_chunks_strictly(row: Row, most: int) -> Iterator[Row]:
    """Text of a document in chunks of 128 words, at most `most` of them; raises what the parser raises."""
    import pypdfium2

    document = pypdfium2.PdfDocument(row["bytes"])
    try:
        pages = len(document)
        words: list[str] = []
        for number in range(pages):
            page = document[number]
            text = page.get_textpage()
            words += text.get_text_range().split()
            text.close()
            page.close()
    finally:
        document.close()
    for chunk in range(max(1, min(most, -(-len(words) // CHUNK_WORDS)))):
        part = words[chunk * CHUNK_WORDS : (chunk + 1) * CHUNK_WORDS]
        # A PDF may hold halves of surrogate pairs, which no engine stores as text.
        text = " ".join(part).encode("utf-8", "replace").decode()
        yield {"path": name_of(row["path"]), "pages": pages, "chunk": chunk, "text": text, "error": ""}


def pdf_chunks(row: Row, most: int) -> Iterator[Row]:
    """As `pdf_chunks_strictly`; a document that cannot be read becomes one row with an `error`."""
    try:
        yield from pdf_chunks_strictly(row, most)
    except Exception as error:
        empty = {"pages": 0, "chunk": 0, "text": ""}
        yield {"path": name_of(row["path"]), **empty, "error": what_failed(error)}


def pdf_first_chunk(row: Row) -> Iterator[Row]:
    return pdf_chunks(row, 1)


def pdf_forty_chunks(row: Row) -> Iterator[Row]:
    return pdf_chunks(row, 40)


class MiniLm:
    """Embeddings of 384 numbers (all-MiniLM-L6-v2, eight bits, 128 tokens)."""

    def __init__(self, models: str) -> None:
        self._session = _onnx(models, "minilm")
        self._tokenizer = _tokenizer(models, "minilm-tokenizer", 128)
        self._tokenizer.enable_padding(length=128)

    def __call__(self, batch: Batch) -> dict[str, list[Any]]:
        import numpy as np

        encoded = self._tokenizer.encode_batch([str(text) for text in batch["text"]])
        ids = np.array([it.ids for it in encoded], dtype=np.int64)
        mask = np.array([it.attention_mask for it in encoded], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(None, feed)
        weight = mask[:, :, None].astype(np.float32)
        return _embedded(batch, (hidden * weight).sum(1) / np.maximum(weight.sum(1), 1))


class WordLlama:
    """Embeddings of 256 numbers: the mean of one vector for each token."""

    def __init__(self, models: str) -> None:
        self._vectors = _safetensors(Path(models, "wordllama.safetensors"))
        self._tokenizer = _tokenizer(models, "wordllama-tokenizer", 512)

    def __call__(self, batch: Batch) -> dict[str, list[Any]]:
        import numpy as np

        encoded = self._tokenizer.encode_batch(
            [str(text) for text in batch["text"]], add_special_tokens=False
        )
        means = [
            self._vectors[it.ids].astype(np.float32).mean(0)
            if it.ids
            else np.zeros(self._vectors.shape[1], np.float32)
            for it in encoded
        ]
        return _embedded(batch, np.stack(means))


def _embedded(batch: Batch, vectors: Any) -> dict[str, list[Any]]:
    import numpy as np

    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    unit = (vectors / norms).astype(np.float32)
    kept = {name: list(values) for name, values in batch.items() if name != "text"}
    sizes = [len(str(text)) for text in batch["text"]]
    return {**kept, "characters": sizes, "embedding": [row.tobytes() for row in unit]}


# Audio


def sound_strictly(row: Row) -> Row:
    """Decode, mix to one channel, resample to 16 kHz; raises what the decoder raises."""
    import numpy as np
    import soundfile
    import soxr

    refuse_empty(row["bytes"])
    samples, rate = soundfile.read(io.BytesIO(row["bytes"]), dtype="float32", always_2d=True)
    resampled = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
    content = (np.clip(resampled, -1, 1) * 32767).astype(np.int16).tobytes()
    return {"path": name_of(row["path"]), "ms": 1000 * len(samples) // rate, "samples": content, "error": ""}


def sound(row: Row) -> Row:
    """As `sound_strictly`; what it raises becomes the `error` of a row without samples."""
    try:
        return sound_strictly(row)
    except Exception as error:
        return {"path": name_of(row["path"]), "ms": 0, "samples": b"", "error": what_failed(error)}


class Speech:
    """Where somebody speaks (Silero VAD, windows of 32 ms): lists of first and last milliseconds."""

    WINDOW, CONTEXT = 512, 64

    def __init__(self, models: str) -> None:
        self._session = _onnx(models, "silero")

    def __call__(self, batch: Batch) -> dict[str, list[Any]]:
        import numpy as np

        kept = {name: list(values) for name, values in batch.items() if name != "samples"}
        starts: list[list[int]] = []
        ends: list[list[int]] = []
        for content in batch["samples"]:
            found = self._segments(np.frombuffer(content, np.int16).astype(np.float32) / 32767)
            starts.append([start for start, _ in found])
            ends.append([end for _, end in found])
        return {**kept, "starts": starts, "ends": ends}

    def _segments(self, samples: Any) -> list[tuple[int, int]]:
        import numpy as np

        window, found = self.WINDOW, []
        state = np.zeros((2, 1, 128), np.float32)
        rate = np.array(SAMPLE_RATE, np.int64)
        padded = np.concatenate([np.zeros(self.CONTEXT, np.float32), samples])
        began: int | None = None
        count = len(samples) // window
        for number in range(count):
            piece = padded[None, number * window : number * window + window + self.CONTEXT]
            answer, state = self._session.run(None, {"input": piece, "state": state, "sr": rate})
            speaks = answer[0, 0] >= (0.5 if began is None else 0.35)
            moment = 32 * number
            if speaks and began is None:
                began = moment
            elif not speaks and began is not None:
                found.append((began, moment))
                began = None
        if began is not None:
            found.append((began, 32 * count))
        return found


def segments(row: Row) -> Iterator[Row]:
    """A row for each stretch of speech; one with length 0 for a file without any."""
    pairs = list(zip(row["starts"], row["ends"], strict=True)) or [(0, 0)]
    for start, end in pairs:
        yield {
            "path": row["path"],
            "ms": row["ms"],
            "start": int(start),
            "end": int(end),
            "error": row["error"],
        }


# Text


def page_strictly(row: Row) -> Row:
    """Text of a page, its language, and keys under which near duplicates meet; raises for an empty file."""
    import py3langid
    from selectolax.lexbor import LexborHTMLParser

    refuse_empty(row["bytes"])
    body = LexborHTMLParser(row["bytes"]).body
    text = body.text(separator=" ") if body is not None else ""
    words = text.split()
    language, _ = py3langid.classify(text[:2000])
    return {
        "path": name_of(row["path"]),
        "language": language,
        "characters": len(text),
        "words": len(words),
        "bands": bands(words),
        "error": "",
    }


def page(row: Row) -> Row:
    """As `page_strictly`; what it raises becomes the `error` of a row without text."""
    try:
        return page_strictly(row)
    except Exception as error:
        empty = {"language": "", "characters": 0, "words": 0, "bands": [0] * BANDS}
        return {"path": name_of(row["path"]), **empty, "error": what_failed(error)}


def bands(words: Sequence[str]) -> list[int]:
    """128 MinHashes of the shingles of five words, folded to 16 keys."""
    import numpy as np

    codes = np.array([zlib.crc32(word.encode("utf-8", "replace")) for word in words], dtype=np.uint64)
    if len(codes) < SHINGLE_WORDS:
        codes = np.pad(codes, (0, SHINGLE_WORDS - len(codes)))
    count = len(codes) - SHINGLE_WORDS + 1
    shingles = np.zeros(count, np.uint64)
    for place in range(SHINGLE_WORDS):
        shingles = shingles * np.uint64(1_099_511_628_211) + codes[place : place + count]
    shingles = np.unique(shingles)
    draws = np.random.default_rng(1).integers(1, 2**63, (2, MINHASHES, 1), dtype=np.uint64)
    least = ((draws[0] | np.uint64(1)) * shingles + draws[1] >> np.uint64(32)).min(axis=1)
    rows = MINHASHES // BANDS
    return [zlib.crc32(least[place * rows : (place + 1) * rows].tobytes()) for place in range(BANDS)]


# Models


def _onnx(models: str, name: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        str(Path(models, f"{name}.onnx")), options, providers=["CPUExecutionProvider"]
    )


def _tokenizer(models: str, name: str, tokens: int) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(models, f"{name}.json")))
    tokenizer.enable_truncation(tokens)
    tokenizer.no_padding()
    return tokenizer


def _safetensors(path: Path) -> Any:
    """The one table of vectors of a file in the safetensors format: a length, a JSON header, numbers."""
    import json

    import numpy as np

    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    ((_, facts),) = header.items()
    kind = {"F16": np.float16, "F32": np.float32}[facts["dtype"]]
    start, end = facts["data_offsets"]
    return np.frombuffer(content[8 + size + start : 8 + size + end], kind).reshape(facts["shape"])
