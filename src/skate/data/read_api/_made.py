"""From a datasource to a Dataset: what all ``read_*`` functions have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skate.data._io.datasource import Datasource
from skate.data._plan.logical import Node, Read
from skate.data._verbs import resources as options
from skate.data.context import DataContext
from skate.data.dataset import Dataset, MaterializedDataset


def made(
    verb: str,
    source: Datasource,
    *,
    parallelism: int = -1,
    override_num_blocks: int | None = None,
    concurrency: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **named: Any,
) -> Dataset:
    """Return the Dataset of a datasource.

    Args:
        verb: the function, for errors.
        source: makes the read tasks.
        parallelism: the old spelling of ``override_num_blocks``.
        override_num_blocks: number of read tasks; None: chosen by sizes.
        concurrency: most read tasks at a time.
        num_cpus: CPUs of a read task.
        num_gpus: GPUs of a read task.
        memory: bytes of heap memory of a read task.
        ray_remote_args: options of read tasks in the old spelling.
        named: further options of read tasks.
    """
    node = Read(
        source,
        options.parallelism(verb, parallelism, override_num_blocks),
        options.resources(verb, num_cpus, num_gpus, memory, named, ray_remote_args),
        options.most_tasks(verb, concurrency),
    )
    return Dataset(node, DataContext.get_current().copy())


def held(node: Node) -> MaterializedDataset:
    """Return the Dataset of blocks that are there."""
    return MaterializedDataset(node, DataContext.get_current().copy())


def error_policy(on_error: str) -> str:
    """Return what is done about unreadable files; the context's option counts where the call has none."""
    if on_error == "raise" and DataContext.get_current().max_errored_blocks:
        return "skip"
    return on_error
