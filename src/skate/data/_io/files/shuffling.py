"""The order of files when ``shuffle=`` is given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from skate.data.seeds import FileShuffleConfig

T = TypeVar("T")


def check_shuffle(shuffle: Any) -> None:
    """Raise ValueError unless ``shuffle`` is None, ``"files"`` or a FileShuffleConfig."""
    if not (shuffle is None or shuffle == "files" or isinstance(shuffle, FileShuffleConfig)):
        raise ValueError(f"shuffle must be None, 'files' or a FileShuffleConfig, not {shuffle!r}")


def shuffled(items: Sequence[T], shuffle: Any, execution_idx: int = 0) -> list[T]:
    """Return items in the order that ``shuffle`` asks for."""
    made = list(items)
    seed = shuffle.get_seed(execution_idx) if isinstance(shuffle, FileShuffleConfig) else None
    random.Random(seed).shuffle(made)  # noqa: S311 - no secret
    return made
