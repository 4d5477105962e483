"""The protocol: fitting, batches, pickles, chains, classes of users' own, names that are left out."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import skate.data
import skate.data.preprocessors as pre
from skate.data.preprocessor import Preprocessor, PreprocessorNotFittedException
from skate.data.preprocessors import Chain, Concatenator, FitStatus, SimpleImputer, StandardScaler


@pytest.fixture
def ds():
    return skate.data.from_items([{"x": 1.0, "y": 5}, {"x": None, "y": 6}, {"x": 3.0, "y": 7}])


def test_public_names():
    assert skate.data.Preprocessor is Preprocessor
    assert skate.data.preprocessors is pre
    assert all(hasattr(pre, name) for name in pre.__all__)


def test_fit_comes_before_transform(ds):
    scaler = StandardScaler(["x"])
    assert scaler.fit_status() == FitStatus.NOT_FITTED == Preprocessor.FitStatus.NOT_FITTED
    assert not scaler.has_stats()
    with pytest.raises(PreprocessorNotFittedException, match=r"StandardScaler.transform needs .* call fit"):
        scaler.transform(ds)
    with pytest.raises(PreprocessorNotFittedException):
        scaler.transform_batch({"x": np.array([1.0])})
    assert scaler.fit(ds) is scaler
    assert scaler.fit_status() == FitStatus.FITTED
    assert scaler.has_stats()
    assert scaler.stats_ == {"mean(x)": 2.0, "std(x)": 1.0}
    scaler.fit(skate.data.from_items([{"x": 5.0}]))
    assert scaler.stats_["mean(x)"] == 5.0


def test_a_fit_that_fails_leaves_nothing_learned(ds):
    scaler = StandardScaler(["x"]).fit(ds)
    with pytest.raises(ValueError, match="x"):
        scaler.fit(skate.data.range(3))
    assert scaler.fit_status() == FitStatus.NOT_FITTED


def test_batches_come_back_as_they_were_given(ds):
    scaler = StandardScaler(["x"]).fit(ds)
    frame = pd.DataFrame({"x": [4.0], "k": ["a"]})
    assert scaler.transform_batch(frame)["x"].tolist() == [2.0]
    assert frame["x"].tolist() == [4.0]
    arrays = scaler.transform_batch({"x": np.array([4.0, 2.0])})
    assert arrays["x"].tolist() == [2.0, 0.0]
    assert scaler.transform_batch(pa.table({"x": [0.0]})) == pa.table({"x": [-2.0]})
    with pytest.raises(ValueError, match="batch"):
        scaler.transform_batch([1, 2])


def test_options_of_the_run_are_passed_on(ds):
    made = StandardScaler(["x"]).fit(ds).transform(ds, batch_size=1, num_cpus=0.5, concurrency=1)
    assert [row["x"] for row in made.take_all()] == [-1.0, None, 1.0]
    again = StandardScaler(["x"]).fit_transform(ds, transform_batch_size=2)
    assert again.take_all() == made.take_all()
    assert "StandardScaler" in repr(made)


def test_pickles_and_serialized_bytes_keep_what_was_learned(ds):
    scaler = StandardScaler(["x"]).fit(ds)
    for copy in (pickle.loads(pickle.dumps(scaler)), Preprocessor.deserialize(scaler.serialize())):
        assert copy.stats_ == scaler.stats_
        assert copy.transform(ds).take_all() == scaler.transform(ds).take_all()
    with pytest.raises(TypeError, match="not a Preprocessor"):
        Preprocessor.deserialize(pickle.dumps([1]))


@pytest.mark.parametrize(
    ("columns", "error"),
    [("x", TypeError), ([], ValueError), (["x", "x"], ValueError), ([1], TypeError), (None, TypeError)],
)
def test_columns_are_a_list_of_names(columns, error):
    with pytest.raises(error, match="StandardScaler"):
        StandardScaler(columns)


def test_output_columns_are_as_many():
    with pytest.raises(ValueError, match="1 output_columns for 2 columns"):
        StandardScaler(["x", "y"], ["z"])
    scaler = StandardScaler(["x"], ["z"])
    assert (scaler.get_input_columns(), scaler.get_output_columns()) == (["x"], ["z"])
    assert repr(scaler) == "StandardScaler(columns=['x'], output_columns=['z'])"


def test_chain_fits_each_part_on_what_the_ones_before_made(ds):
    chain = Chain(SimpleImputer(["x"]), StandardScaler(["x", "y"]), Concatenator(["x", "y"], "f"))
    assert chain.fit_status() == FitStatus.NOT_FITTED
    with pytest.raises(PreprocessorNotFittedException):
        chain.transform(ds)
    made = chain.fit_transform(ds).take_all()
    assert chain.fit_status() == FitStatus.FITTED
    assert [row["f"].tolist() for row in made] == [
        pytest.approx([-1.2247, -1.2247], abs=1e-4),
        [0, 0],
        pytest.approx([1.2247, 1.2247], abs=1e-4),
    ]
    assert chain.transform_batch({"x": np.array([2.0]), "y": np.array([6])})["f"].tolist() == [[0.0, 0.0]]
    assert (chain.get_input_columns(), chain.get_output_columns()) == (["x", "y"], ["x", "y", "f"])
    chain.preprocessors[1]._is_fitted = False
    assert chain.fit_status() == FitStatus.PARTIALLY_FITTED
    assert Chain(Concatenator(["x"])).fit_status() == FitStatus.NOT_FITTABLE
    assert Chain(Concatenator(["x"])).fit_transform(ds).count() == 3
    with pytest.raises(TypeError, match="Chain takes preprocessors"):
        Chain(StandardScaler)


class Frames(Preprocessor):
    def _fit(self, dataset):
        self.stats_ = {"max": dataset.max("y")}
        return self

    def _transform_pandas(self, df):
        df["y"] = self.stats_["max"] - df["y"]
        return df


class Arrays(Preprocessor):
    _is_fittable = False

    def _transform_numpy(self, batch):
        batch["y"] *= 10
        return batch


def test_classes_of_users_own(ds):
    frames = Frames()
    assert (Frames.preferred_batch_format(), Arrays.preferred_batch_format()) == ("pandas", "numpy")
    with pytest.raises(PreprocessorNotFittedException):
        frames.transform(ds)
    assert [row["y"] for row in frames.fit_transform(ds).take_all()] == [2, 1, 0]
    assert [row["y"] for row in Arrays().transform(ds).take_all()] == [50, 60, 70]
    assert Arrays().transform_batch(pd.DataFrame({"y": [1]}))["y"].tolist() == [10]
    assert [row["y"] for row in Chain(Arrays(), Frames()).fit_transform(ds).take_all()] == [20, 10, 0]


def test_classes_without_methods_say_what_to_define(ds):
    class Nothing(Preprocessor):
        pass

    with pytest.raises(NotImplementedError, match="_fit"):
        Nothing().fit(ds)
    Nothing._is_fittable = False
    with pytest.raises(NotImplementedError, match="_transform_arrow"):
        Nothing().transform(ds)


def test_left_out_names_say_why():
    with pytest.raises(NotImplementedError, match=r"Preprocessor.stat_computation_plan is not in skate.data"):
        getattr(StandardScaler(["x"]), "stat_computation_plan")  # noqa: B009
    assert not hasattr(StandardScaler(["x"]), "stat_computation_plan")
    with pytest.raises(AttributeError, match="no attribute 'stats'"):
        getattr(StandardScaler(["x"]), "stats")  # noqa: B009
