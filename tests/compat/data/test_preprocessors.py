"""Preprocessors: fitted on a data set, applied to it, to others and to batches."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from ray.data import preprocessors
from ray.data.preprocessor import Preprocessor, PreprocessorNotFittedException

from .helpers import blocks


def column(ds, name):
    """Return the values of a column."""
    return [row[name] for row in ds.take_all()]


def numbers():
    return blocks({"x": [1.0, 2.0, 3.0], "y": [10.0, 20.0, 60.0]})


def kinds():
    return blocks({"c": ["b", "a", "b"], "d": ["u", "u", "v"]})


def test_the_standard_scaler():
    scaled = preprocessors.StandardScaler(columns=["x"]).fit_transform(numbers())
    assert column(scaled, "x") == pytest.approx([-1.2247449, 0, 1.2247449])
    assert column(scaled, "y") == [10.0, 20.0, 60.0]


def test_the_scaler_of_least_and_most():
    assert column(preprocessors.MinMaxScaler(columns=["x", "y"]).fit_transform(numbers()), "y") == [0, 0.2, 1]


def test_scaled_columns_beside_the_old_ones():
    scaler = preprocessors.MinMaxScaler(columns=["x"], output_columns=["z"])
    assert column(scaler.fit_transform(numbers()), "z") == [0, 0.5, 1]
    assert column(scaler.transform(numbers()), "x") == [1, 2, 3]


def test_ordinals_are_in_the_order_of_the_values():
    assert column(preprocessors.OrdinalEncoder(columns=["c"]).fit_transform(kinds()), "c") == [1, 0, 1]


def test_one_hot():
    found = column(preprocessors.OneHotEncoder(columns=["c"]).fit_transform(kinds()), "c")
    assert [list(map(int, value)) for value in found] == [[0, 1], [1, 0], [0, 1]]


def test_labels_go_there_and_back():
    encoder = preprocessors.LabelEncoder(label_column="c")
    encoded = encoder.fit_transform(kinds())
    assert column(encoded, "c") == [1, 0, 1]
    assert column(encoder.inverse_transform(encoded), "c") == ["b", "a", "b"]


def test_the_imputer():
    ds = blocks({"x": [1.0, None, 3.0], "c": ["a", "a", None]})
    assert column(preprocessors.SimpleImputer(columns=["x"], strategy="mean").fit_transform(ds), "x") == [
        1,
        2,
        3,
    ]
    constant = preprocessors.SimpleImputer(columns=["c"], strategy="constant", fill_value="z")
    assert column(constant.fit_transform(ds), "c") == ["a", "a", "z"]


def test_the_concatenator():
    found = column(
        preprocessors.Concatenator(columns=["x", "y"], output_column_name="f").transform(numbers()), "f"
    )
    assert [value.tolist() for value in found] == [[1, 10], [2, 20], [3, 60]]


def test_a_chain():
    chain = preprocessors.Chain(
        preprocessors.MinMaxScaler(columns=["x", "y"]),
        preprocessors.Concatenator(columns=["x", "y"], output_column_name="f"),
    )
    found = column(chain.fit_transform(numbers()), "f")
    assert [np.round(value, 2).tolist() for value in found] == [[0, 0], [0.5, 0.2], [1, 1]]


def test_batches_are_transformed_without_a_data_set():
    scaler = preprocessors.MinMaxScaler(columns=["x"]).fit(numbers())
    assert scaler.transform_batch(pd.DataFrame({"x": [2.0]}))["x"].tolist() == [0.5]


def test_what_is_not_fitted_says_so():
    with pytest.raises(PreprocessorNotFittedException):
        preprocessors.StandardScaler(columns=["x"]).transform(numbers())


def test_statistics_are_kept_and_pickle():
    scaler = preprocessors.MinMaxScaler(columns=["x"]).fit(numbers())
    assert scaler.fit_status() == Preprocessor.FitStatus.FITTED
    again = pickle.loads(pickle.dumps(scaler))
    assert column(again.transform(numbers()), "x") == [0, 0.5, 1]


def test_a_preprocessor_prints_its_arguments():
    assert repr(preprocessors.StandardScaler(columns=["x"])).startswith("StandardScaler(columns=['x']")


def test_a_preprocessor_of_ones_own():
    class Shift(Preprocessor):
        _is_fittable = False

        def _transform_pandas(self, df):
            df["x"] = df["x"] + 1
            return df

    assert column(Shift().transform(numbers()), "x") == [2, 3, 4]


def test_modules_of_the_classes():
    from ray.data.preprocessors.scaler import StandardScaler

    assert StandardScaler is preprocessors.StandardScaler
    assert StandardScaler.__module__ == "ray.data.preprocessors.scaler"
    assert Preprocessor.__module__ == "ray.data.preprocessor"
