"""Finds the GPUs of this machine: their number, ids and kind. Without GPUs the search reads one folder."""

from __future__ import annotations

import os
import re

_NVIDIA = "/proc/driver/nvidia/gpus"


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that this process may use.

    CUDA_VISIBLE_DEVICES counts, as for every CUDA program; without it, NVIDIA's driver lists them.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        ids = [one.strip() for one in given.split(",") if one.strip()]
        return ids[: ids.index("-1")] if "-1" in ids else ids
    return [str(index) for index in range(len(_folders()))]


def gpu_type() -> str | None:
    """Return the kind of GPU, as ``accelerator_type`` names it: "A100", "L4", ...; None if unknown."""
    for folder in _folders():
        try:
            with open(os.path.join(_NVIDIA, folder, "information"), encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        found = re.search(r"Model:\s*(?:NVIDIA |Tesla |Quadro |GeForce )*([A-Za-z0-9]+)", text)
        if found is not None:
            return found[1]
    return None


def _folders() -> list[str]:
    try:
        return sorted(os.listdir(_NVIDIA))
    except OSError:
        return []
