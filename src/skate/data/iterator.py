"""``DataIterator``: loops over a data set, here or in another task or actor."""

from __future__ import annotations

from skate.data._verbs.iterators import DataIterator

__all__ = ["DataIterator"]
