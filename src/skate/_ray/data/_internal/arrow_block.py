"""``ray.data._internal.arrow_block``: all blocks are of Arrow."""

from __future__ import annotations

from skate._ray._missing import missing
from skate.data._block.whole_builder import WholeBlockBuilder
from skate.data.block import BlockAccessor

__all__ = ["ArrowBlockAccessor", "ArrowBlockBuilder"]


class ArrowBlockAccessor(BlockAccessor):
    """Answers questions about a block, and makes other blocks and batches of it."""


class ArrowBlockBuilder(WholeBlockBuilder):
    """Gathers rows and blocks; ``build`` returns all of them as one block."""


def __getattr__(name: str) -> object:
    return missing(__name__, name)
