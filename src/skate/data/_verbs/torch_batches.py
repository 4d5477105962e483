"""Batches of torch tensors: collate functions, devices, pinned memory; torch is imported at first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pyarrow as pa

from skate.data._block.batches import to_batch
from skate.data.collate_fn import CollateFn, is_tensor_batch_type, tensors


def check_torch_options(dtypes: Any, device: Any, collate_fn: Any) -> None:
    """Refuse options of ``iter_torch_batches`` that exclude each other.

    Raises:
        ValueError: ``collate_fn`` together with ``dtypes``.
        TypeError: ``collate_fn`` cannot be called.
        ImportError: torch is not installed.
    """
    if collate_fn is not None and dtypes is not None:
        raise ValueError(
            "iter_torch_batches() takes collate_fn= or dtypes=, not both: what a collate_fn returns has "
            "its types"
        )
    if collate_fn is not None and not callable(collate_fn):
        raise TypeError(f"iter_torch_batches(collate_fn=) must be a function, got {collate_fn!r}")
    try:
        import_module("torch")
    except ImportError as error:
        raise ImportError("iter_torch_batches() needs torch: install torch") from error


def collate(
    dtypes: Any, device: Any, collate_fn: Callable[[Any], Any] | None, pin_memory: bool
) -> Callable[[pa.Table], Any]:
    """Return a function that makes of a table what the loop gets.

    Args:
        dtypes: see ``Dataset.iter_torch_batches``.
        device: a device, its name, or "auto"; None: tensors stay where they are made.
        collate_fn: the user's, or None.
        pin_memory: copy tensors into pinned memory before they go to a GPU.

    Returns:
        The function.
    """
    torch = import_module("torch")
    chosen = _device(torch, device)
    batch_format = collate_fn.batch_format if isinstance(collate_fn, CollateFn) else "numpy"
    # A collate function of the user's that says nothing of devices: what it returns goes to the device
    # only if one was asked for by name, or if all of it is tensors.
    moves = chosen is not None and (chosen.type != "cpu" or device != "auto")

    def made(table: pa.Table) -> Any:
        batch = to_batch(table, batch_format)
        found = tensors(batch, dtypes) if collate_fn is None else collate_fn(batch)
        if (moves or pin_memory) and is_tensor_batch_type(found):
            found = _moved(found, chosen if moves else None, pin_memory)
        return found

    return made


def _device(torch: Any, device: Any) -> Any:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return None if device is None else torch.device(device)


def _moved(value: Any, device: Any, pin_memory: bool) -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(one, device, pin_memory) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(one, device, pin_memory) for one in value)
    if pin_memory and value.device.type == "cpu":
        value = value.pin_memory()
    return value if device is None else value.to(device=device, non_blocking=pin_memory)
