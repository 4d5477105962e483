"""Encoders: the same as scikit-learn on the same rows; lists, values that were not learned, and the way back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import preprocessing

import skate.data
from skate.data.preprocessors import (
    Categorizer,
    LabelEncoder,
    MultiHotEncoder,
    OneHotEncoder,
    OrdinalEncoder,
)


def dataset(values, cut=0):
    parts = [values[:cut], values[cut:]] if 0 < cut < len(values) else [values]
    return skate.data.from_arrow([pa.table({"x": pa.array(part)}) for part in parts])


def column(ds, name="x"):
    return [row[name].tolist() if hasattr(row[name], "tolist") else row[name] for row in ds.take_all()]


values_of_one_type = st.one_of(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=20),
    st.lists(st.integers(-3, 3), min_size=1, max_size=20),
    st.lists(st.booleans(), min_size=1, max_size=20),
)


@settings(max_examples=20, deadline=None)
@given(values=values_of_one_type, cut=st.integers(0, 20))
def test_encoders_are_those_of_sklearn(values, cut):
    ds, array = dataset(values, cut), np.array(values)[:, None]
    ordinal = preprocessing.OrdinalEncoder().fit_transform(array)[:, 0]
    assert column(OrdinalEncoder(["x"]).fit_transform(ds)) == ordinal.tolist()
    hot = preprocessing.OneHotEncoder(sparse_output=False).fit_transform(array)
    assert column(OneHotEncoder(["x"]).fit_transform(ds)) == hot.tolist()
    labels = LabelEncoder("x")
    encoded = labels.fit_transform(ds)
    assert column(encoded) == preprocessing.LabelEncoder().fit_transform(array[:, 0]).tolist()
    assert column(labels.inverse_transform(encoded)) == values


def test_values_that_were_not_learned():
    ds, other = dataset(["a", "b"]), dataset(["b", "z", None])
    assert column(OrdinalEncoder(["x"]).fit(ds).transform(other)) == [1, None, None]
    assert column(OneHotEncoder(["x"]).fit(ds).transform(other)) == [[0, 1], [0, 0], [0, 0]]
    encoder = LabelEncoder("x", output_column="y").fit(ds)
    assert column(encoder.inverse_transform(skate.data.from_items([{"y": 1}, {"y": 9}, {"y": -1}]))) == [
        "b",
        None,
        None,
    ]
    # Text where numbers were learned.
    assert column(OrdinalEncoder(["x"]).fit(dataset([1, 2])).transform(dataset(["1", "2"]))) == [None, None]


@pytest.mark.parametrize("encoder", [OrdinalEncoder, OneHotEncoder])
def test_nulls_are_no_category(encoder):
    with pytest.raises(ValueError, match=r"the column 'x' has nulls"):
        encoder(["x"]).fit(dataset(["a", None]))
    with pytest.raises(ValueError, match="nulls"):
        LabelEncoder("x").fit(dataset([None, 1]))


LISTS = [["b", "a"], ["c"], [], ["a", "a"]]


def test_lists_are_encoded_by_element_or_as_values():
    ds = dataset(LISTS, 1)
    encoder = OrdinalEncoder(["x"]).fit(ds)
    assert column(encoder.transform(ds)) == [[1, 0], [2], [], [0, 0]]
    assert column(encoder.transform(dataset([None, ["z", "c"]]))) == [None, [None, 2]]
    whole = OrdinalEncoder(["x"], encode_lists=False)
    assert column(whole.fit_transform(ds)) == [2, 3, 0, 1]
    assert whole.stats_["unique_values(x)"] == {(): 0, ("a", "a"): 1, ("b", "a"): 2, ("c",): 3}
    hot = OneHotEncoder(["x"]).fit_transform(dataset([[1, 2], [3, 4], [1, 2]]))
    assert column(hot) == [[1, 0], [0, 1], [1, 0]]


@settings(max_examples=15, deadline=None)
@given(
    lists=st.lists(st.lists(st.sampled_from("abcd"), unique=True, max_size=4), min_size=1, max_size=10),
    cut=st.integers(0, 10),
)
def test_multi_hot_is_that_of_sklearn(lists, cut):
    if not any(lists):
        return
    expected = preprocessing.MultiLabelBinarizer().fit_transform(lists)
    values = [pa.array(lists, pa.list_(pa.string()))]
    ds = skate.data.from_arrow([pa.table({"x": values[0][:cut]}), pa.table({"x": values[0][cut:]})])
    assert column(MultiHotEncoder(["x"]).fit_transform(ds)) == expected.tolist()


def test_multi_hot_counts_and_takes_single_values():
    encoder = MultiHotEncoder(["x"], output_columns=["y"]).fit(dataset(LISTS))
    assert column(encoder.transform(dataset([["a", "z", "a"], None])), "y") == [[2, 0, 0], [0, 0, 0]]
    assert column(MultiHotEncoder(["x"]).fit_transform(dataset(["a", "b"]))) == [[1, 0], [0, 1]]


def test_only_the_commonest_categories_have_a_place():
    ds = dataset(["a", "b", "b", "c", "c"])
    encoder = OneHotEncoder(["x"], max_categories={"x": 2})
    assert column(encoder.fit_transform(ds)) == [[0, 0], [1, 0], [1, 0], [0, 1], [0, 1]]
    many = MultiHotEncoder(["x"], max_categories={"x": 1})
    assert column(many.fit_transform(dataset(LISTS))) == [[1], [0], [0], [2]]
    for most in ({"y": 1}, {"x": 0}):
        with pytest.raises(ValueError, match="max_categories"):
            OneHotEncoder(["x"], max_categories=most)


def test_vectors_of_numbers_are_lists():
    ds = skate.data.from_items([{"x": np.array([1, 2])}, {"x": np.array([2, 9])}])
    assert column(OrdinalEncoder(["x"]).fit_transform(ds)) == [[0, 1], [1, 2]]
    assert column(MultiHotEncoder(["x"]).fit_transform(ds)) == [[1, 1, 0], [0, 1, 1]]


def test_categorizer_makes_categorical_columns():
    ds = skate.data.from_items([{"x": "M", "y": 2}, {"x": "S", "y": 1}, {"x": None, "y": 2}])
    made = Categorizer(["x", "y"], dtypes={"x": ["S", "M", "L"]}).fit_transform(ds)
    assert made.take_all() == ds.take_all()
    batch = (
        Categorizer(["x"], {"x": pd.CategoricalDtype(["S", "M"])})
        .fit(ds)
        .transform_batch(pa.table({"x": ["M", "XL"]}))
    )
    assert batch["x"].combine_chunks().dictionary.to_pylist() == ["S", "M"]
    assert batch["x"].to_pylist() == ["M", None]
