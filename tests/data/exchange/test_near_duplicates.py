"""Near duplicates of texts and pictures."""

from __future__ import annotations

import io
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skate.data._block.kernels import near
from skate.data._block.rows import from_rows
from skate.data._operators.exchanges import NearDuplicates, output_schema, run_exchange
from skate.data._task.exchange import ExchangeLimits


def rows_of(parts):
    return [row for part in parts for block in part for row in block.to_pylist()]


def words(rng, count):
    return [f"w{rng.randrange(5_000)}" for _ in range(count)]


def texts(seed=0, originals=60):
    """Texts, and for each the number of the original it was made from."""
    rng = random.Random(seed)
    made = []
    for number in range(originals):
        text = words(rng, 200)
        made.append((" ".join(text), number))
        if number % 3 == 0:
            changed = list(text)
            changed[rng.randrange(200)] = "changed"
            made.append((" ".join(changed).upper() + " !", number))
        if number % 5 == 0:
            made.append(("  ".join(text), number))
    rng.shuffle(made)
    return made


def test_one_of_each_family_of_texts_is_kept_and_it_is_the_first():
    made = texts()
    table = pa.table(
        {"text": [text for text, _ in made], "of": [of for _, of in made], "row": range(len(made))}
    )
    firsts = {}
    for row, (_, of) in enumerate(made):
        firsts.setdefault(of, row)
    found = rows_of(run_exchange(NearDuplicates("text", threshold=0.7), [[[table]]]))
    assert [row["row"] for row in found] == sorted(firsts.values())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=4), st.sampled_from([500, 20_000, 1 << 20]), st.integers(1, 3))
def test_neither_cuts_nor_plans_change_the_rows(edges, target, parallelism):
    made = texts(seed=3, originals=30)
    table = pa.table({"text": [text for text, _ in made], "row": range(len(made))})
    edges = [0, *sorted(edge % len(made) for edge in edges), len(made)]
    bundles = [[table.slice(a, b - a)] for a, b in zip(edges, edges[1:], strict=False)]
    exchange = NearDuplicates("text", threshold=0.7)
    assert rows_of(run_exchange(exchange, [bundles], ExchangeLimits(target, parallelism))) == rows_of(
        run_exchange(exchange, [[[table]]])
    )


def test_texts_without_words_are_like_no_other_and_short_ones_are_compared_whole():
    table = pa.table(
        {"text": ["", None, "...", "", "Hello, world", "hello world!", "hello"], "row": range(7)}
    )
    found = rows_of(run_exchange(NearDuplicates("text"), [[[table]]]))
    assert [row["row"] for row in found] == [0, 1, 2, 3, 4, 6]
    empty = pa.table({"text": pa.nulls(2)})
    assert len(rows_of(run_exchange(NearDuplicates("text"), [[[empty]]]))) == 2
    assert run_exchange(NearDuplicates("text"), [[]]) == []
    assert output_schema(NearDuplicates("text"), [table.schema]) == table.schema


def test_rows_can_be_marked_instead():
    table = pa.table({"text": ["a b c", "x", "A b, c", "a b c"]})
    found = rows_of(
        run_exchange(NearDuplicates("text", mark="like"), [[[table.slice(0, 1)], [table.slice(1)]]])
    )
    assert [row["like"] for row in found] == [None, None, 0, 0]


def test_similarity_is_that_of_the_definition():
    rng = random.Random(1)
    base = words(rng, 400)
    changed = base[:300] + words(rng, 100)

    def runs(text):
        return {tuple(text[at : at + near.WORDS]) for at in range(len(text) - near.WORDS + 1)}

    true = len(runs(base) & runs(changed)) / len(runs(base) | runs(changed))
    signatures, has_one = near.text_signatures(pa.chunked_array([[" ".join(base), " ".join(changed)]]))
    assert has_one.all()
    found = near.similarity(near.sketch(signatures), np.array([0]), np.array([1]))[0]
    assert abs(found - true) < 0.15


def test_a_bucket_of_a_hundred_thousand_equal_texts():
    table = pa.table({"text": ["the same words again and again"] * 100_000})
    assert len(rows_of(run_exchange(NearDuplicates("text"), [[[table]]]))) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 12), st.randoms(use_true_random=False)
)
def test_components_of_hashes_are_exact(hashes, distance, rng):
    for value in list(hashes):
        for _ in range(2):
            flipped = value
            for _ in range(rng.randrange(16)):
                flipped ^= 1 << rng.randrange(64)
            hashes.append(flipped)
    rng.shuffle(hashes)
    array = np.array(hashes, np.uint64)
    found = near.first_of_component(
        len(array), near.picture_pairs(array, np.arange(len(array)), distance)
    ).tolist()
    labels = list(range(len(hashes)))
    changed = True
    while changed:
        changed = False
        for i, a in enumerate(hashes):
            for j, b in enumerate(hashes):
                if bin(a ^ b).count("1") <= distance and labels[i] > labels[j]:
                    labels[i] = labels[j]
                    changed = True
    assert found == labels


def test_large_buckets_of_pictures_are_complete():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 2**20, 300).astype(np.uint64)
    found = near.first_of_component(300, near.picture_pairs(low, np.arange(300), 1))
    for i in range(300):
        for j in range(i):
            if bin(int(low[i]) ^ int(low[j])).count("1") <= 1:
                assert found[i] == found[j]


def picture(seed, size=(64, 48)):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def encoded(image, **options):
    data = io.BytesIO()
    image.save(data, **options)
    return data.getvalue()


def test_pictures_that_look_the_same():
    first, second = picture(1), picture(2)
    values = [
        encoded(first, format="PNG"),
        encoded(second, format="PNG"),
        None,
        encoded(first, format="JPEG", quality=60),
        encoded(first.resize((120, 90)), format="PNG"),
    ]
    table = pa.table({"image": values, "row": range(5)})
    found = rows_of(
        run_exchange(NearDuplicates("image", kind="image"), [[[table.slice(0, 2)], [table.slice(2)]]])
    )
    assert [row["row"] for row in found] == [0, 1, 2]
    arrays = from_rows(
        [{"image": np.asarray(image), "row": row} for row, image in enumerate((first, second, first))]
    )
    found = run_exchange(NearDuplicates("image", kind="image"), [[[arrays]]])
    assert [row for part in found for block in part for row in block["row"].to_pylist()] == [0, 1]
    with pytest.raises(ValueError, match="row 0 of column 'image' is no picture"):
        run_exchange(NearDuplicates("image", kind="image"), [[[pa.table({"image": [b"nothing"]})]]])


def test_options_are_checked():
    for options in ({"kind": "audio"}, {"threshold": 0}, {"threshold": 1.1}, {"distance": 64}):
        with pytest.raises(ValueError, match=next(iter(options))):
            NearDuplicates("x", **options)
