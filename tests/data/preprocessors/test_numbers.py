"""Preprocessors of numbers: the same as scikit-learn, scipy and pandas on the same rows, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import preprocessing
from sklearn.impute import SimpleImputer as SklearnImputer

import skate.data
from skate.data.preprocessors import (
    CustomKBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    RobustScaler,
    SimpleImputer,
    StandardScaler,
    UniformKBinsDiscretizer,
)

numbers = st.lists(st.floats(-1e6, 1e6, allow_nan=False, width=32), min_size=1, max_size=30)


def dataset(values, cut=0):
    tables = [pa.table({"x": pa.array(part, pa.float64())}) for part in (values[:cut], values[cut:])]
    return skate.data.from_arrow(tables)


def column(ds, name="x"):
    return [row[name] for row in ds.take_all()]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (StandardScaler, preprocessing.StandardScaler),
        (MinMaxScaler, preprocessing.MinMaxScaler),
        (MaxAbsScaler, preprocessing.MaxAbsScaler),
    ],
)
@settings(max_examples=15, deadline=None)
@given(values=numbers, cut=st.integers(0, 30))
def test_scalers_are_those_of_sklearn(ours, theirs, values, cut):
    expected = theirs().fit_transform(np.array(values, np.float64)[:, None])[:, 0]
    got = column(ours(columns=["x"]).fit_transform(dataset(values, cut)))
    largest = np.abs(values).max()
    # sklearn does not divide by less than ten times the precision of a float. A column that is almost constant is
    # divided by its rounding errors, which differ.
    if largest > 1e-14 if ours is MaxAbsScaler else np.std(values) > 1e-6 * (1 + largest):
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_robust_scaler_is_that_of_sklearn():
    values = np.random.default_rng(1).normal(size=101) ** 3
    expected = preprocessing.RobustScaler(quantile_range=(10, 90)).fit_transform(values[:, None])[:, 0]
    scaler = RobustScaler(columns=["x"], quantile_range=(0.1, 0.9), output_columns=["y"])
    ds = scaler.fit_transform(dataset(values.tolist(), 40))
    assert column(ds, "y") == pytest.approx(expected)
    assert column(ds) == values.tolist()
    assert set(scaler.stats_) == {"low_quantile(x)", "median(x)", "high_quantile(x)"}


@pytest.mark.parametrize("scaler", [StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler])
def test_nulls_stay_and_do_not_count(scaler):
    got = column(scaler(["x"]).fit_transform(dataset([1.0, None, 3.0, 2.0])))
    assert got[1] is None
    assert [got[0], *got[2:]] == column(scaler(["x"]).fit_transform(dataset([1.0, 3.0, 2.0])))


@pytest.mark.parametrize("scaler", [StandardScaler, MinMaxScaler, RobustScaler])
def test_constant_columns_become_zero_and_empty_ones_null(scaler):
    assert column(scaler(["x"]).fit_transform(dataset([5.0, 5.0]))) == [0.0, 0.0]
    assert column(scaler(["x"]).fit_transform(dataset([None, None]))) == [None, None]


def test_values_that_were_not_learned_from_are_scaled_alike():
    scaler = MinMaxScaler(["x"]).fit(dataset([0.0, 10.0]))
    assert column(scaler.transform(dataset([20.0, -5.0]))) == [2.0, -0.5]
    assert scaler.stats_ == {"min(x)": 0.0, "max(x)": 10.0}


def test_integers_and_booleans_are_numbers_and_text_is_not():
    ds = skate.data.from_items([{"i": 1, "b": True, "s": "a"}, {"i": 3, "b": False, "s": "b"}])
    assert StandardScaler(["i", "b"]).fit_transform(ds).take_all() == [
        {"i": -1.0, "b": 1.0, "s": "a"},
        {"i": 1.0, "b": -1.0, "s": "b"},
    ]
    with pytest.raises(TypeError, match=r"Normalizer: the column 's' has the type string"):
        Normalizer(["s"]).transform(ds).take_all()
    with pytest.raises(ValueError, match="nope"):
        StandardScaler(["nope"]).fit(ds)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_normalizer_is_that_of_sklearn(norm):
    rows = np.array([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1.5, 2.0, -7.0]])
    ds = skate.data.from_pandas(pd.DataFrame(rows, columns=list("abc")))
    got = Normalizer(list("abc"), norm).transform(ds).to_pandas().to_numpy(np.float64)
    assert got == pytest.approx(preprocessing.Normalizer(norm).transform(rows))
    part = Normalizer(["a", "b"], norm, output_columns=["a2", "b2"]).transform(ds)
    assert part.columns() == ["a", "b", "c", "a2", "b2"]
    with pytest.raises(ValueError, match=r"norm='l3'"):
        Normalizer(["a"], "l3")


@pytest.mark.parametrize("power", [0, 0.5, 1, 2, -1.5])
def test_power_transformer_is_that_of_scipy(power):
    values = np.array([-3.5, -1.0, 0.0, 0.25, 4.0])
    got = column(PowerTransformer(["x"], power).transform(dataset([*values, None])))
    assert got[-1] is None
    assert got[:-1] == pytest.approx(stats.yeojohnson(values, power))
    got = column(PowerTransformer(["x"], power, method="box-cox").transform(dataset([0.5, 4.0, None])))
    assert got[-1] is None
    assert got[:-1] == pytest.approx(stats.boxcox(np.array([0.5, 4.0]), power))
    with pytest.raises(ValueError, match="not positive"):
        PowerTransformer(["x"], power, "box-cox").transform(dataset([0.0])).take_all()


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=30),
    bins=st.integers(1, 6),
    right=st.booleans(),
    lowest=st.booleans(),
)
def test_uniform_bins_are_those_of_pandas(values, bins, right, lowest):
    spread = max(values) - min(values)
    if 0 < spread < 1e-3:
        return
    expected = pd.cut(
        pd.Series(values, dtype="float64"), bins, right=right, include_lowest=lowest, labels=False
    )
    discretizer = UniformKBinsDiscretizer(["x"], bins, right=right, include_lowest=lowest)
    assert column(discretizer.fit_transform(dataset(values, 1))) == expected.tolist()


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-5, 15)), min_size=1, max_size=20),
    right=st.booleans(),
    lowest=st.booleans(),
)
def test_custom_bins_are_those_of_pandas(values, right, lowest):
    edges = [0, 3, 7, 10]
    expected = pd.cut(
        pd.Series(values, dtype="float64"), edges, right=right, include_lowest=lowest, labels=False
    )
    expected = [None if np.isnan(one) else int(one) for one in expected]
    discretizer = CustomKBinsDiscretizer(["x"], edges, right=right, include_lowest=lowest)
    assert (
        column(discretizer.transform(dataset([None if v is None else float(v) for v in values]))) == expected
    )


def test_bins_by_column_and_types():
    ds = skate.data.from_pandas(pd.DataFrame({"a": [1.0, 5.0, 9.0], "b": [1.0, 5.0, 9.0]}))
    kind = pd.CategoricalDtype(["low", "high"], ordered=True)
    made = CustomKBinsDiscretizer(
        ["a", "b"], {"a": [0, 2, 9], "b": [0, 6, 8]}, dtypes={"a": kind, "b": np.int8}
    ).transform(ds)
    assert made.take_all() == [{"a": "low", "b": 0}, {"a": "high", "b": 0}, {"a": "high", "b": None}]
    assert made.schema().base_schema.field("b").type == pa.int8()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CustomKBinsDiscretizer(["a"], [3, 1]), "not in order"),
        (lambda: CustomKBinsDiscretizer(["a"], [1, 1, 2]), "an edge twice"),
        (lambda: CustomKBinsDiscretizer(["a"], {"b": [1, 2]}), r"columns=\['a'\]"),
        (lambda: CustomKBinsDiscretizer(["a"], [1, 1], duplicates="drop"), "two edges"),
        (lambda: UniformKBinsDiscretizer(["a"], 0), "numbers from 1"),
        (lambda: UniformKBinsDiscretizer(["a"], 3, duplicates="no"), "duplicates='no'"),
        (lambda: RobustScaler(["a"], (0.9, 0.1)), "quantile_range"),
        (lambda: PowerTransformer(["a"], 1, "cubic"), "method='cubic'"),
    ],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("strategy", ["mean", "most_frequent"])
def test_imputer_is_that_of_sklearn(strategy):
    values = [2.0, None, 7.0, float("nan"), 2.0, 7.0, 1.0]
    array = np.array([np.nan if v is None else v for v in values])[:, None]
    expected = SklearnImputer(strategy=strategy).fit_transform(array)[:, 0]
    assert column(SimpleImputer(["x"], strategy).fit_transform(dataset(values, 3))) == pytest.approx(expected)


def test_imputer_of_text_constants_and_integers():
    ds = skate.data.from_items([{"s": "a", "i": 1}, {"s": None, "i": None}, {"s": "a", "i": 2}])
    assert column(SimpleImputer(["s"], "most_frequent").fit_transform(ds), "s") == ["a", "a", "a"]
    assert column(SimpleImputer(["s"], "constant", "?").transform(ds), "s") == ["a", "?", "a"]
    assert column(SimpleImputer(["i"]).fit_transform(ds), "i") == [1.0, 1.5, 2.0]
    assert column(SimpleImputer(["i"], "constant", 0, output_columns=["j"]).transform(ds), "j") == [1, 0, 2]
    with pytest.raises(TypeError, match=r"'x' does not fit into the column 'i'"):
        SimpleImputer(["i"], "constant", "x").transform(ds).take_all()
    with pytest.raises(ValueError, match="no value to learn from"):
        SimpleImputer(["x"]).fit(dataset([None]))
    for options in ({"strategy": "median"}, {"strategy": "constant"}, {"fill_value": 1}):
        with pytest.raises(ValueError, match="SimpleImputer"):
            SimpleImputer(["x"], **options)
