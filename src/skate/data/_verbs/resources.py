"""Options of the verbs that run functions: resources, pools, and their old spellings."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from skate.data._notices import deprecated, without_effect
from skate.data._plan.logical import ActorPool, Resources, TaskPool
from skate.data._previews import cell, meant
from skate.data._verbs.checks import task_options
from skate.data.compute import ActorPoolStrategy, ComputeStrategy, TaskPoolStrategy

#: Options that tasks and actors take beside CPUs, GPUs and memory; see ``skate.remote``.
_NAMED = (
    "resources", "label_selector", "accelerator_type", "runtime_env", "max_calls", "fallback_strategy",
)  # fmt: skip
_VERB_OPTIONS = (
    "batch_size", "batch_format", "compute", "concurrency", "fn_args", "fn_kwargs", "fn_constructor_args",
    "fn_constructor_kwargs", "max_errors", "memory", "num_cpus", "num_gpus", "on_error", "retry_on",
    "timeout_per_row", "udf_modifying_row_count", "zero_copy_batch", *_NAMED,
)  # fmt: skip
_FREE = ("scheduling_strategy", "max_retries", "retry_exceptions", "max_restarts", "max_task_retries", "name")


def resources(
    verb: str,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    named: Mapping[str, Any] | None = None,
    free: Mapping[str, Any] | None = None,
) -> Resources:
    """Return the resources of a stage, checked.

    Args:
        verb: the method, for errors: ``"map_batches"``.
        num_cpus: CPUs of one task or replica.
        num_gpus: GPUs of one task or replica.
        memory: bytes of heap memory.
        named: ``resources``, ``label_selector``, ``accelerator_type``, ``runtime_env``, ... by name.
        free: ``ray_remote_args`` in the old spelling; numbers in it count where the named option is not
            given.

    Returns:
        The resources.

    Raises:
        TypeError: an option of a wrong type, or one that does not exist.
        ValueError: a negative number.
    """
    others = {key: value for key, value in (named or {}).items() if value is not None}
    numbers: dict[str, Any] = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory}
    for key, value in (free or {}).items():
        if key in numbers:
            numbers[key] = value if numbers[key] is None else numbers[key]
        elif key in _NAMED or key in _FREE:
            others.setdefault(key, value)
        else:
            raise TypeError(
                f"{verb}() has no option {key!r}{meant(key, _VERB_OPTIONS)}. Options of its tasks are "
                f"num_cpus, num_gpus, memory, {', '.join((*_NAMED, *_FREE))}"
            )
    for key, value in numbers.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{verb}({key}=) must be a number, got {value!r}")
        if value < 0 or math.isnan(value):
            raise ValueError(f"{verb}({key}=) must be at least 0, got {value!r}")
    task_options(verb, others)
    return Resources(numbers["num_cpus"], numbers["num_gpus"], numbers["memory"], others)


def free_args(verb: str, free: Mapping[str, Any]) -> None:
    """Say once that free ``ray_remote_args`` are an old spelling."""
    if free:
        deprecated(
            f"{verb}(**ray_remote_args)",
            f"give {', '.join(sorted(free))} as options of the verb where it has them",
            stacklevel=5,
        )


def compute(
    verb: str,
    fn: Any,
    strategy: ComputeStrategy | str | None,
    concurrency: int | tuple[int, ...] | None,
    max_in_flight: int | None = None,
) -> TaskPool | ActorPool:
    """Return how a function runs, from what the user gave.

    Args:
        verb: the method, for errors.
        fn: the function, or the class.
        strategy: ``compute=``; wins over ``concurrency``.
        concurrency: the old spelling: a size, (min, max) or (min, max, initial).
        max_in_flight: ``DataContext.max_tasks_in_flight_per_actor``.

    Returns:
        Tasks for functions, replicas for classes.

    Raises:
        ValueError: a strategy that does not fit the function, or sizes out of range.
        TypeError: a strategy of a wrong type.
    """
    is_class = inspect.isclass(fn)
    if strategy is None and concurrency is not None:
        deprecated(
            f"{verb}(concurrency=)",
            "write compute=ActorPoolStrategy(size=...)"
            if is_class
            else "write compute=TaskPoolStrategy(size=...)",
            stacklevel=5,
        )
        strategy = _of_concurrency(verb, is_class, concurrency)
    if isinstance(strategy, str):
        strategy = _of_name(verb, strategy)
    if strategy is None:
        strategy = ActorPoolStrategy() if is_class else TaskPoolStrategy()
    if isinstance(strategy, TaskPoolStrategy):
        if is_class:
            raise ValueError(
                f"{verb}() got the class {fn.__name__} with TaskPoolStrategy: a class keeps an instance, "
                f"which "
                "tasks do not. Write compute=ActorPoolStrategy(...), or give a function"
            )
        return TaskPool(strategy.size)
    if not isinstance(strategy, ActorPoolStrategy):
        raise TypeError(
            f"{verb}(compute=) must be a TaskPoolStrategy or an ActorPoolStrategy, got {strategy!r}"
        )
    return ActorPool(
        min_size=strategy.min_size,
        max_size=None if math.isinf(strategy.max_size) else int(strategy.max_size),
        initial_size=strategy.initial_size,
        in_flight=strategy.max_tasks_in_flight_per_actor or max_in_flight or 2,
        max_concurrency=strategy.max_concurrent_calls_per_actor or 1,
    )


def _of_name(verb: str, name: str) -> ComputeStrategy:
    if name == "tasks":
        return TaskPoolStrategy()
    if name == "actors":
        return ActorPoolStrategy()
    raise ValueError(f"{verb}(compute=) must be a strategy object, 'tasks' or 'actors', got {name!r}")


def _of_concurrency(verb: str, is_class: bool, concurrency: Any) -> ComputeStrategy:
    if isinstance(concurrency, tuple):
        if not is_class:
            raise ValueError(
                f"{verb}(concurrency={concurrency!r}): sizes of a pool need a class; a function takes one "
                f"number"
            )
        if len(concurrency) not in (2, 3) or not all(isinstance(one, int) for one in concurrency):
            raise ValueError(
                f"{verb}(concurrency=) must be a number, (min, max) or (min, max, initial), got "
                f"{concurrency!r}"
            )
        initial = concurrency[2] if len(concurrency) == 3 else None
        return ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1], initial_size=initial)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ValueError(f"{verb}(concurrency=) must be a number of at least 1, got {concurrency!r}")
    return ActorPoolStrategy(size=concurrency) if is_class else TaskPoolStrategy(concurrency)


def fixed_args(verb: str, ray_remote_args_fn: Callable[[], Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """Return what ``ray_remote_args_fn`` gives now: it is asked once, not for each task."""
    if ray_remote_args_fn is None:
        return {}
    if not callable(ray_remote_args_fn):
        raise TypeError(f"{verb}(ray_remote_args_fn=) must be a function, got {cell(ray_remote_args_fn)}")
    deprecated(f"{verb}(ray_remote_args_fn=)", "it is called once, when the verb is", stacklevel=5)
    found = ray_remote_args_fn()
    if not isinstance(found, Mapping):
        raise TypeError(
            f"{verb}(ray_remote_args_fn=) must return a dict of options, it returned {cell(found)}"
        )
    return found


def constructor_args(verb: str, fn: Any, args: Any, kwargs: Any) -> None:
    """Refuse arguments of a constructor where there is none."""
    if not inspect.isclass(fn) and (args or kwargs):
        raise ValueError(
            f"{verb}(fn_constructor_args=, fn_constructor_kwargs=) need a class, got "
            f"{getattr(fn, '__name__', fn)!r}: give a function its arguments by fn_args= and fn_kwargs="
        )


def parallelism(verb: str, old: int, override_num_blocks: int | None) -> int:
    """Return the number of read tasks asked for, or -1; ``parallelism=`` is the old spelling.

    Raises:
        ValueError: a number below 1.
    """
    if override_num_blocks is None:
        if old == -1:
            return -1
        deprecated(f"{verb}(parallelism=)", "write override_num_blocks=", stacklevel=5)
        override_num_blocks = old
    if isinstance(override_num_blocks, bool) or not isinstance(override_num_blocks, int):
        raise TypeError(f"{verb}(override_num_blocks=) must be a number, got {override_num_blocks!r}")
    if override_num_blocks < 1:
        raise ValueError(f"{verb}(override_num_blocks=) must be at least 1, got {override_num_blocks}")
    return override_num_blocks


def most_tasks(verb: str, concurrency: int | None) -> int | None:
    """Check ``concurrency=`` of a read or write, where it is no old spelling: the most tasks at a time."""
    if concurrency is None:
        return None
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ValueError(f"{verb}(concurrency=) must be a number of at least 1 or None, got {concurrency!r}")
    return concurrency


def unused(verb: str, **options: Any) -> None:
    """Say once of options of Ray's that have no effect here."""
    for name, (value, why) in options.items():
        if value is not None:
            without_effect(f"{verb}({name}=)", why)
