"""Computes the resources that a node offers from the user's request and the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from skate._base.process import absolute, cpu_count, memory_bytes
from skate._base.resources import to_fixed
from skate._launch import accelerators
from skate._scheduling.labels import ACCELERATOR_TYPE, check_labels


class Offer(NamedTuple):
    """Holds the resources that a node offers."""

    #: The amounts of resources in fixed point.
    resources: dict[str, int]
    #: Bytes of shared memory for objects.
    store_capacity: int
    #: The folder for spilled objects; empty: the temporary folder.
    spill_folder: str
    #: Ids of the GPUs, as CUDA_VISIBLE_DEVICES takes them.
    gpus: list[str]
    #: The labels that the user gave, and those of the machine.
    labels: dict[str, str]


#: The smallest store (bytes); a smaller number is a mistake in the unit.
_MIN_STORE_BYTES = 1 << 20


def offer(
    num_cpus: int | None,
    num_gpus: int | None,
    resources: Mapping[str, float] | None,
    object_store_memory: int | None,
    spill_folder: str | None,
    node_labels: Mapping[str, str] | None = None,
) -> Offer:
    """Return the offer of a node: the amounts that the user asked for, and the machine's amounts for the
    rest.

    Raises:
        TypeError, ValueError: an amount is wrong; the message names it.
    """
    _check_amount("num_cpus", num_cpus, int)
    _check_amount("num_gpus", num_gpus, int)
    _check_amount("object_store_memory", object_store_memory, int)
    if object_store_memory is not None and object_store_memory < _MIN_STORE_BYTES:
        raise ValueError(
            f"object_store_memory is a number of bytes, at least {_MIN_STORE_BYTES} (1 MiB), got "
            f"{object_store_memory}"
        )
    if spill_folder is not None and not isinstance(spill_folder, str):
        raise TypeError(f"object_spilling_directory takes a path, got {spill_folder!r}")
    labels = check_labels(node_labels or {}, "labels")
    if resources is not None and not isinstance(resources, Mapping):
        raise TypeError(f"resources takes a dict of amounts by name, got {resources!r}")
    amounts: dict[str, float] = {}
    for name, amount in (resources or {}).items():
        if name in ("CPU", "GPU", "memory"):
            raise ValueError(f"resources must not name {name!r}: use num_cpus or num_gpus")
        _check_amount(f"resources[{name!r}]", amount, (int, float))
        amounts[name] = amount
    memory = memory_bytes()
    store = object_store_memory if object_store_memory is not None else int(memory * 0.3)
    amounts["CPU"] = cpu_count() if num_cpus is None else num_cpus
    visible = accelerators.visible_gpus()
    gpus = visible if num_gpus is None else visible[:num_gpus]
    if num_gpus is not None and num_gpus > len(visible):
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            raise ValueError(
                f"num_gpus={num_gpus}, but CUDA_VISIBLE_DEVICES lets this process see "
                f"{len(visible)}: {visible}"
            )
        gpus = [str(index) for index in range(num_gpus)]  # declared by the user; not checked
    if gpus:
        amounts["GPU"] = len(gpus)
        kind = accelerators.gpu_type()
        if kind is not None:
            amounts.setdefault(f"accelerator_type:{kind}", 1.0)
            labels[ACCELERATOR_TYPE] = kind
    amounts["memory"] = max(0, int(memory * 0.7))
    amounts["object_store_memory"] = store
    # Resources of which programs ask for a little to be placed on this node, or on the head.
    amounts["node:127.0.0.1"] = amounts["node:__internal_head__"] = 1.0
    spills = absolute(spill_folder) if spill_folder else ""
    return Offer(to_fixed(amounts), store, spills, gpus, labels)


def _check_amount(name: str, value: Any, kinds: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name} takes a number, got {value!r} ({type(value).__name__})")
    if value < 0:
        raise ValueError(f"Resource quantities must be nonnegative: {name} is {value!r}")
