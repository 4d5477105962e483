"""``GroupedData``: what ``Dataset.groupby`` returns."""

from __future__ import annotations

from skate.data._verbs.grouped import GroupedData

__all__ = ["GroupedData"]
