"""``ray.data._internal.delegating_block_builder``: authors of datasources make blocks by it."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._block.whole_builder import WholeBlockBuilder

__all__ = ["DelegatingBlockBuilder"]


class DelegatingBlockBuilder(WholeBlockBuilder):
    """Gathers rows, batches and blocks; ``build`` returns all of them as one block."""


def __getattr__(name: str) -> object:
    return missing(__name__, name)
