"""Concatenator, text as vectors, and transforms of torchvision."""

from __future__ import annotations

import sys
import types

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction import text

import skate.data
from skate.data.preprocessors import (
    Concatenator,
    CountVectorizer,
    FeatureHasher,
    HashingVectorizer,
    Tokenizer,
    TorchVisionPreprocessor,
)

TEXTS = ["a rose is a rose", "is it", "", "it is it"]


def column(ds, name):
    return [row[name].tolist() if hasattr(row[name], "tolist") else row[name] for row in ds.take_all()]


def texts(cut=2):
    return skate.data.from_arrow([pa.table({"t": TEXTS[:cut]}), pa.table({"t": TEXTS[cut:]})])


def test_concatenator_makes_vectors_and_removes_the_columns():
    ds = skate.data.from_items([{"a": 1, "b": 0.5, "k": "x"}, {"a": 2, "b": 1.5, "k": "y"}])
    made = Concatenator(["b", "a"]).transform(ds)
    assert made.columns() == ["k", "concat_out"]
    assert column(made, "concat_out") == [[0.5, 1.0], [1.5, 2.0]]
    kind = Concatenator(["a", "b"], "f", dtype=np.float32).transform(ds).take(1)[0]["f"].dtype
    assert kind == np.float32
    with_null = skate.data.from_items([{"a": None}, {"a": 1}])
    assert np.isnan(column(Concatenator(["a"]).transform(with_null), "concat_out")[0][0])


def test_concatenator_and_columns_that_are_missing_or_vectors():
    ds = skate.data.from_items([{"a": 1, "v": np.array([2.0, 3.0])}])
    assert column(Concatenator(["a", "z"], "f").transform(ds), "f") == [[1]]
    with pytest.raises(ValueError, match="there is no column 'z'"):
        Concatenator(["a", "z"], raise_if_missing=True).transform(ds).take_all()
    with pytest.raises(ValueError, match="flatten=True"):
        Concatenator(["a", "v"]).transform(ds).take_all()
    assert column(Concatenator(["a", "v"], "f", flatten=True).transform(ds), "f") == [[1.0, 2.0, 3.0]]
    ragged = skate.data.from_arrow(pa.table({"v": [[1, 2], [1]]}))
    with pytest.raises(ValueError, match="differ in length"):
        Concatenator(["v"], flatten=True).transform(ragged).take_all()


def test_tokenizer_splits_at_spaces_or_by_a_function():
    assert column(Tokenizer(["t"]).transform(texts()), "t") == [one.split(" ") for one in TEXTS]
    assert column(Tokenizer(["t"], list, ["u"]).transform(texts()), "u") == [list(one) for one in TEXTS]
    nothing = skate.data.from_arrow(pa.table({"t": pa.array([None], pa.string())}))
    assert column(Tokenizer(["t"]).transform(nothing), "t") == [None]


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("cut", [0, 2, 4])
def test_count_vectorizer_is_that_of_sklearn(most, cut):
    oracle = text.CountVectorizer(tokenizer=str.split, token_pattern=None, max_features=most)
    expected = oracle.fit_transform(TEXTS).toarray().tolist()
    vectorizer = CountVectorizer(["t"], str.split, most)
    assert column(vectorizer.fit_transform(texts(cut)), "t") == expected
    assert list(vectorizer.stats_["token_counts(t)"]) == oracle.get_feature_names_out().tolist()


def test_hashes_are_the_same_in_every_process():
    made = HashingVectorizer(["t"], 8, output_columns=["v"]).transform(texts())
    assert [sum(one) for one in column(made, "v")] == [5, 2, 1, 3]
    assert (
        column(made, "v")[0] == HashingVectorizer(["t"], 8).transform_batch({"t": TEXTS[:1]})["t"][0].tolist()
    )
    ds = skate.data.from_items([{"a": 1, "b": 2, "c": None}])
    [vector] = column(FeatureHasher(["a", "b", "c"], 5, "h").transform(ds), "h")
    # sha256("a") % 5 == 3, sha256("b") % 5 == 0
    expected = [0.0] * 5
    for name, value in (("a", 1.0), ("b", 2.0)):
        import hashlib

        expected[int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5] += value
    assert vector == expected
    with pytest.raises(ValueError, match="num_features=0"):
        HashingVectorizer(["t"], 0)


class FakeTensor(np.ndarray):
    """Stands for a tensor of torch, which is not installed here."""

    def numpy(self):
        return np.asarray(self)


@pytest.fixture
def torch(monkeypatch):
    module = types.ModuleType("torch")
    module.Tensor = FakeTensor
    module.as_tensor = lambda array: np.asarray(array).view(FakeTensor)
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def pictures():
    return skate.data.from_items([{"image": np.full((2, 2), n, np.uint8)} for n in range(3)])


def test_transforms_of_pictures(torch, pictures):
    made = TorchVisionPreprocessor(["image"], lambda one: one / 2, ["half"]).transform(pictures)
    assert [row["half"][0, 0] for row in made.take_all()] == [0.0, 0.5, 1.0]
    whole = TorchVisionPreprocessor(["image"], lambda batch: batch.reshape(len(batch), -1), batched=True)
    assert [row["image"].tolist() for row in whole.transform(pictures).take_all()] == [
        [n] * 4 for n in range(3)
    ]

    def of_arrays_only(one):
        if isinstance(one, FakeTensor):
            raise TypeError("not a tensor")
        return torch.as_tensor(one + 1)

    made = TorchVisionPreprocessor(["image"], of_arrays_only).transform(pictures)
    assert [row["image"][0, 0] for row in made.take_all()] == [1, 2, 3]
    with pytest.raises(TypeError, match="returned a list"):
        TorchVisionPreprocessor(["image"], lambda one: [1]).transform(pictures).take_all()


def test_torch_is_needed_when_it_runs(monkeypatch, pictures):
    monkeypatch.setitem(sys.modules, "torch", None)
    transform = TorchVisionPreprocessor(["image"], lambda one: one)
    with pytest.raises(ImportError, match="pip install torch"):
        transform.transform(pictures).take_all()
