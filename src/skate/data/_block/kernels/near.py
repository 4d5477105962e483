"""Texts and pictures that almost equal each other: signatures, candidates, components.

A text's signature are 128 minima of hashes over its runs of five words (MinHash): two signatures agree in
as many places as their texts have runs in common. Texts that agree in all eight places of one of sixteen
bands are compared. A picture's signature are 64 bits that say where grey grows brighter to the right
(dHash); pictures that differ in at most ``d`` bits agree in one of ``d + 1`` parts of the bits, so
candidates are complete.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from skate.data._block import arrow_compute as pc
from skate.data._block.batches import to_batch
from skate.data._block.kernels.arrays import as_array, plain
from skate.data._block.kernels.hashing import hash_column

PERMUTATIONS = 128
BANDS = 16
BAND_ROWS = PERMUTATIONS // BANDS
WORDS = 5

_ALL_PAIRS = 64
"""Rows of a bucket that are compared each with each; in larger ones each with the first and the one
before.
"""

_TEXTS_AT_A_TIME = 2_000

Array = Any
"""numpy.ndarray."""


def _constants() -> tuple[Array, Array, Array]:
    """Return the factors and terms of the hash functions, and powers for polynomials."""
    drawn = np.random.Generator(np.random.Philox(20_26)).integers(
        0, 2**63, (2, PERMUTATIONS), dtype=np.uint64
    )
    powers = np.cumprod(np.full(16, 0xD1342543DE82EF95, np.uint64))
    return drawn[0] * np.uint64(2) + np.uint64(1), drawn[1], powers


def text_signatures(column: pa.ChunkedArray) -> tuple[Array, Array]:
    """Return the signatures of texts.

    Args:
        column: texts; case and punctuation do not count.

    Returns:
        uint32 of (texts, 128), and which texts have one: those with a word.
    """
    column = plain(column)
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    parts = [
        _some_signatures(as_array(column.slice(start, _TEXTS_AT_A_TIME)))
        for start in range(0, len(column), _TEXTS_AT_A_TIME)
    ]
    if not parts:
        return np.zeros((0, PERMUTATIONS), np.uint32), np.zeros(0, bool)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _some_signatures(texts: pa.Array) -> tuple[Array, Array]:
    cleaned = pc.utf8_trim_whitespace(pc.utf8_lower(pc.replace_substring_regex(texts, r"[^\pL\pN]+", " ")))
    words = pc.utf8_split_whitespace(pc.fill_null(cleaned, ""))
    kept = pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = pc.list_flatten(words)
    is_empty = pc.fill_null(pc.equal(cleaned, ""), True).to_numpy(zero_copy_only=False)
    signatures = np.full((len(texts), PERMUTATIONS), 0xFFFFFFFF, np.uint32)
    hashes = hash_column(flat).to_numpy(zero_copy_only=False)
    ends = np.cumsum(kept)
    starts = ends - kept
    if len(hashes):
        runs, first_run = _runs_of_words(hashes, starts, ends)
        factors, terms, _ = _constants()
        rows = np.flatnonzero(kept > 0)
        for number in range(PERMUTATIONS):
            permuted = ((runs * factors[number] + terms[number]) >> np.uint64(32)).astype(np.uint32)
            signatures[rows, number] = np.minimum.reduceat(permuted, first_run[rows])
    return signatures, ~is_empty & (kept > 0)


def _runs_of_words(hashes: Array, starts: Array, ends: Array) -> tuple[Array, Array]:
    """Return a hash for each run of five words, or for the whole of a shorter text, and each text's first
    run.
    """
    powers = _constants()[2]
    lengths = ends - starts
    counts = np.maximum(lengths - (WORDS - 1), np.minimum(lengths, 1))
    first_run = np.cumsum(counts) - counts
    text = np.repeat(np.arange(len(starts)), counts)
    begin = starts[text] + np.arange(len(text)) - first_run[text]
    runs = np.zeros(len(text), np.uint64)
    for place in range(WORDS):
        word = begin + place
        inside = word < ends[text]
        runs += np.where(inside, hashes[np.minimum(word, len(hashes) - 1)] * powers[place], np.uint64(0))
    return runs, first_run


def band_hashes(signatures: Array) -> Array:
    """Return uint64 of (texts, bands): a hash of each band of a signature."""
    powers = _constants()[2]
    banded = signatures.reshape(len(signatures), BANDS, BAND_ROWS).astype(np.uint64)
    return (banded * powers[:BAND_ROWS]).sum(axis=2, dtype=np.uint64)


def sketch(signatures: Array) -> Array:
    """Return the low bytes of signatures: enough to estimate a similarity, at a quarter of the size."""
    return (signatures & np.uint32(0xFF)).astype(np.uint8)


def similarity(sketches: Array, left: Array, right: Array) -> Array:
    """Estimate the share of runs of words that texts have in common, from 0 to 1."""
    agree = np.empty(len(left))
    for start in range(0, len(left), 100_000):
        stop = start + 100_000
        agree[start:stop] = (sketches[left[start:stop]] == sketches[right[start:stop]]).mean(axis=1)
    chance = 1 / 256
    return (agree - chance) / (1 - chance)


def picture_hashes(column: pa.ChunkedArray, name: str) -> tuple[Array, Array]:
    """Return the dHash of pictures: encoded files, or arrays of (height, width) or (height, width, channels).

    Args:
        column: the pictures.
        name: the column's name, for errors.

    Returns:
        uint64 of each picture, and which rows have one.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: a picture cannot be read; the message has its row.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "near_duplicates of pictures needs Pillow: pip install 'skate[data-images]'"
        ) from error
    hashes = np.zeros(len(column), np.uint64)
    has_one = np.zeros(len(column), bool)
    for row, value in enumerate(_pictures(column, name)):
        if value is None:
            continue
        try:
            if isinstance(value, bytes):
                with Image.open(io.BytesIO(value)) as picture:
                    hashes[row] = _dhash(picture)
            else:
                pixels = np.asarray(value)
                if pixels.ndim == 3 and pixels.shape[2] == 1:
                    pixels = pixels[:, :, 0]
                if pixels.dtype != np.uint8:
                    pixels = np.clip(pixels * (255 if pixels.dtype.kind == "f" else 1), 0, 255).astype(
                        np.uint8
                    )
                hashes[row] = _dhash(Image.fromarray(pixels))
        except Exception as error:
            raise ValueError(
                f"near_duplicates: row {row} of column {name!r} is no picture: {error}"
            ) from error
        has_one[row] = True
    return hashes, has_one


def _pictures(column: pa.ChunkedArray, name: str) -> Iterator[Any]:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        for scalar in column:
            yield scalar.as_py()
        return
    yield from to_batch(pa.table({name: column}), "numpy")[name]


def _dhash(picture: Any) -> int:
    small = np.asarray(picture.convert("L").resize((9, 8)), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def text_pairs(bands: Array, sketches: Array, rows: Array, threshold: float) -> Iterator[tuple[Array, Array]]:
    """Yield pairs of similar texts, band by band.

    Args:
        bands: band hashes of all rows.
        sketches: of all rows.
        rows: numbers of the rows that have a signature.
        threshold: least similarity.
    """
    for band in range(bands.shape[1]):
        for left, right in _bucket_pairs(bands[rows, band]):
            left, right = rows[left], rows[right]
            similar = similarity(sketches, left, right) >= threshold
            yield left[similar], right[similar]


def picture_pairs(hashes: Array, rows: Array, distance: int) -> Iterator[tuple[Array, Array]]:
    """Yield pairs of pictures whose hashes differ in at most ``distance`` bits; all such pairs are
    connected.
    """
    distinct, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)
    yield rows, rows[first[inverse.reshape(-1)]]
    parts = distance + 1
    edges = [number * 64 // parts for number in range(parts + 1)]
    for low, high in itertools.pairwise(edges):
        mask = np.uint64(((1 << (high - low)) - 1) << low)
        for left, right in _bucket_pairs(distinct & mask, complete=True):
            near = _bits(distinct[left] ^ distinct[right]) <= distance
            yield rows[first[left[near]]], rows[first[right[near]]]


def _bits(values: Array) -> Array:
    """Count the bits of uint64."""
    return np.unpackbits(values.view(np.uint8).reshape(len(values), 8), axis=1).sum(axis=1)


def _bucket_pairs(keys: Array, complete: bool = False) -> Iterator[tuple[Array, Array]]:
    """Yield pairs of positions with equal keys."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = (
        np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        if len(keys)
        else np.zeros(0, int)
    )
    sizes = np.diff(np.concatenate([starts, [len(keys)]]))
    large = sizes > _ALL_PAIRS
    if not complete:
        members = np.repeat(np.arange(len(starts)), sizes)
        place = np.arange(len(keys)) - starts[members]
        chosen = large[members] & (place > 0)
        yield order[starts[members[chosen]]], order[np.flatnonzero(chosen)]
        yield order[np.flatnonzero(chosen) - 1], order[np.flatnonzero(chosen)]
    for size in np.unique(sizes[(sizes > 1) & ~large]):
        members_of = starts[sizes == size][:, None] + np.arange(size)
        left, right = np.triu_indices(size, 1)
        yield order[members_of[:, left].reshape(-1)], order[members_of[:, right].reshape(-1)]
    if complete:
        for start, size in zip(starts[large], sizes[large], strict=True):
            members = order[start : start + size]
            for at in range(size - 1):
                yield np.full(size - 1 - at, members[at]), members[at + 1 :]


def first_of_component(count: int, pairs: Iterator[tuple[Array, Array]]) -> Array:
    """Return for each row the smallest row that pairs connect it with: union-find by smallest labels."""
    labels = np.arange(count)
    edges = [pair for pair in pairs if len(pair[0])]
    if not edges:
        return labels
    left = np.concatenate([pair[0] for pair in edges])
    right = np.concatenate([pair[1] for pair in edges])
    while True:
        smallest = np.minimum(labels[left], labels[right])
        before = labels.copy()
        np.minimum.at(labels, labels[left], smallest)
        np.minimum.at(labels, labels[right], smallest)
        np.minimum.at(labels, left, smallest)
        np.minimum.at(labels, right, smallest)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels
