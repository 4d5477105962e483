"""DataContext, strategies, seeds, options: what they accept, and how they refuse."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import warnings

import pytest

import skate.data
from skate.data import _left_out
from skate.data.compute import ActorPoolStrategy, TaskPoolStrategy
from skate.data.context import AutoscalingConfig, DataContext, ShuffleStrategy, set_progress_bars
from skate.data.execution_options import ExecutionOptions, ExecutionResources
from skate.data.seeds import FileShuffleConfig, RandomSeedConfig


def test_import_loads_neither_pyarrow_nor_numpy() -> None:
    code = (
        "import skate.data, sys; skate.data.DataContext.get_current(); skate.data.ActorPoolStrategy(size=1);"
        "print([m for m in ('pyarrow', 'numpy', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("target_max_block_size", "x", "target_max_block_size must be int or None"),
        ("target_max_block_size", True, "target_max_block_size"),
        ("enable_progress_bars", 1, "enable_progress_bars must be bool"),
        ("execution_options", {}, "execution_options"),
        ("memory_limit_bytes", "2GB", "memory_limit_bytes"),
        ("pool_linger_s", None, "pool_linger_s must be number"),
    ],
)
def test_wrong_types_are_refused_with_the_options_name(name: str, value: object, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        setattr(DataContext.get_current(), name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("target_max_block_size", 0), ("on_schema", "guess"), ("progress", "yes"), ("max_errored_blocks", -2)],
)
def test_values_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        setattr(DataContext.get_current(), name, value)


def test_unknown_attributes_are_accepted_and_warn_once_with_near_names() -> None:
    context = DataContext.get_current()
    with pytest.warns(UserWarning, match="target_max_block_sise.*did you mean target_max_block_size"):
        context.target_max_block_sise = 3  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        context.target_max_block_sise = 4  # type: ignore[attr-defined]
    assert context.target_max_block_sise == 4  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no setting 'enable_progres_bars'.*enable_progress_bars"):
        _ = context.enable_progres_bars  # type: ignore[attr-defined]


def test_settings_without_effect_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    context = DataContext.get_current()
    with caplog.at_level(logging.WARNING, "skate.data"):
        context.op_resource_reservation_ratio = 0.5  # the default: nothing to say
        context.op_resource_reservation_ratio = 0.9
        context.op_resource_reservation_ratio = 0.8
        context.autoscaling_config = AutoscalingConfig(actor_pool_util_upscaling_threshold=2.0)
    assert [record.args[0] for record in caplog.records] == [  # type: ignore[index]
        "DataContext.op_resource_reservation_ratio",
        "DataContext.autoscaling_config",
    ]


def test_whole_floats_are_bytes() -> None:
    context = DataContext.get_current()
    context.target_max_block_size = 128e6  # type: ignore[assignment]
    context.target_max_block_size = None
    assert context.target_block_bytes > 1 << 60


def test_copies_share_nothing_and_travel() -> None:
    context = DataContext.get_current()
    made = context.copy()
    made.execution_options.preserve_order = True
    made.retried_io_errors.append("mine")
    assert not context.execution_options.preserve_order
    assert "mine" not in context.retried_io_errors
    made.set_config("a", 1)
    assert (made.get_config("a"), made.get_config("b", 2), context.get_config("a")) == (1, 2, None)
    again = pickle.loads(pickle.dumps(made))
    assert again.execution_options.preserve_order
    assert again.get_config("a") == 1
    made.remove_config("a")
    assert made.get_config("a") is None


def test_current_holds_for_a_block() -> None:
    mine = DataContext.get_current().copy()
    mine.target_min_block_size = 7
    with DataContext.current(mine) as found:
        assert found is mine is DataContext.get_current()
        assert skate.data.range(1).context.target_min_block_size == 7
    assert DataContext.get_current() is not mine


def test_a_dataset_keeps_the_settings_of_its_making() -> None:
    ds = skate.data.range(3)
    DataContext.get_current().max_errored_blocks = 5
    assert ds.context.max_errored_blocks == 0
    assert ds.map(lambda row: row).context is ds.context
    assert skate.data.range(3).context.max_errored_blocks == 5


def test_names_of_shuffles_are_accepted() -> None:
    context = DataContext.get_current()
    context.shuffle_strategy = "hash_shuffle"
    assert context.shuffle_strategy is ShuffleStrategy.HASH_SHUFFLE
    with pytest.raises(ValueError):
        context.shuffle_strategy = "by hand"
    assert ShuffleStrategy.HASH_SHUFFLE_V2 is ShuffleStrategy.SHUFFLE_V2


def test_a_checkpoint_config_points_to_resume() -> None:
    with pytest.raises(NotImplementedError, match="resume=True"):
        DataContext.get_current().checkpoint_config = object()
    DataContext.get_current().checkpoint_config = None


def test_rich_progress_is_one_of_the_views() -> None:
    context = DataContext.get_current()
    context.enable_rich_progress_bars = True
    assert context.progress == "rich"
    assert DataContext(progress="off", enable_rich_progress_bars=True).progress == "off"


def test_set_progress_bars_returns_what_held_before() -> None:
    assert set_progress_bars(False) is True
    assert set_progress_bars(True) is False


# ---------------------------------------------------------------------- strategies


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 1, "min_size": 1}, "either size= or"),
        ({"size": 1, "max_size": 1}, "either size= or"),
        ({"size": 1, "initial_size": 1}, "either size= or"),
        ({"size": 0}, "size"),
        ({"min_size": -1}, "min_size"),
        ({"min_size": 3, "max_size": 2}, "above max_size"),
        ({"min_size": 1, "max_size": 2, "initial_size": 3}, "initial_size"),
        ({"max_size": 0}, "max_size"),
        ({"max_tasks_in_flight_per_actor": 0}, "max_tasks_in_flight_per_actor"),
        ({"size": True}, "size"),
    ],
)
def test_pools_refuse_sizes(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ActorPoolStrategy(**options)  # type: ignore[arg-type]


def test_strategies_compare_and_print() -> None:
    pool = ActorPoolStrategy()
    assert (pool.min_size, pool.max_size, pool.initial_size) == (1, float("inf"), None)
    assert ActorPoolStrategy(size=2) == ActorPoolStrategy(min_size=2, max_size=2, initial_size=2)
    assert ActorPoolStrategy(min_size=0).min_size == 0
    for words in (
        "max_tasks_in_flight_per_actor",
        "max_concurrent_calls_per_actor",
        "num_workers",
        "ready_to_total_workers_ratio=0.8",
    ):
        assert words in repr(pool)
    assert TaskPoolStrategy(2) == TaskPoolStrategy(size=2) != TaskPoolStrategy()
    with pytest.raises(ValueError, match="size"):
        TaskPoolStrategy(0)


# ---------------------------------------------------------------------- seeds, options


def test_seeds() -> None:
    assert RandomSeedConfig.create_seed_config(3).get_seed_tuple(data_context=None) == (3,)
    assert RandomSeedConfig(seed=3).get_seed_tuple(data_context=None) == (3, 0)
    assert RandomSeedConfig().get_seed_tuple(data_context=None) == ()
    assert len(RandomSeedConfig(use_timestamp_as_default=True).get_seed_tuple(data_context=None)) == 1
    for bad in (-1, True, "x"):
        with pytest.raises(ValueError, match="seed"):
            RandomSeedConfig(seed=bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="seed"):
            FileShuffleConfig(seed=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use_timestamp"):
        RandomSeedConfig(seed=1, use_timestamp_as_default=True)
    assert FileShuffleConfig().get_seed() is None
    assert FileShuffleConfig(seed=5, reseed_after_execution=False).get_seed(9) == 5
    assert FileShuffleConfig(seed=5).get_seed(0) != FileShuffleConfig(seed=5).get_seed(1)


def test_execution_resources() -> None:
    one = ExecutionResources(cpu=1, gpu=2, object_store_memory=1 << 30, memory=10)
    assert one.add(one) == one.scale(2) == ExecutionResources.combine_sum([one, one])
    assert one.subtract(one).is_zero()
    assert ExecutionResources.zero().subtract(one).is_non_negative() is False
    assert one.satisfies_limit(ExecutionResources.for_limits(cpu=1))
    assert not one.satisfies_limit(ExecutionResources(cpu=1, gpu=2, memory=10))
    assert one.satisfies_limit(ExecutionResources(cpu=1, gpu=2, memory=10), ignore_object_store_memory=True)
    assert one.object_store_memory_str() == "1.0GiB"
    assert one.memory_str() == "10.0B"
    assert ExecutionResources.from_resource_dict(one.to_resource_dict()) == one
    assert one.copy(cpu=5).cpu == 5
    assert one.max(ExecutionResources(cpu=3)).cpu == 3
    assert one.min(ExecutionResources(cpu=3)).gpu == 0
    assert ExecutionResources(cpu=7).floordiv(ExecutionResources(cpu=2)).cpu == 3
    with pytest.raises(TypeError, match="cpu"):
        ExecutionResources(cpu="4")  # type: ignore[arg-type]


def test_execution_options() -> None:
    options = ExecutionOptions()
    assert options.is_resource_limits_default()
    for name, value in (("resource_limits", 4), ("preserve_order", "yes"), ("verbose_progress", 1)):
        with pytest.raises(TypeError, match=name):
            setattr(options, name, value)
    options.resource_limits = ExecutionResources.for_limits(cpu=4)
    options.exclude_resources = ExecutionResources(cpu=1)
    with pytest.raises(ValueError, match="CPU"):
        options.validate()


# ---------------------------------------------------------------------- names


def test_names_that_are_left_out_say_why() -> None:
    for name in _left_out.names():
        if name.startswith(("read_", "from_")):
            assert not hasattr(skate.data, name)
            with pytest.raises(NotImplementedError, match="is not in skate.data"):
                getattr(skate.data, name)
    ds = skate.data.range(1)
    assert not hasattr(ds, "to_tf")
    with pytest.raises(NotImplementedError, match="tensorflow"):
        _ = ds.to_tf
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = ds.nonsense
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = skate.data.nonsense


def test_names_are_sorted_and_listed() -> None:
    assert skate.data.__all__ == sorted(skate.data.__all__)
    assert set(skate.data.__all__) <= set(dir(skate.data))
