"""A data set's operations without its rows."""

from __future__ import annotations

from copy import copy

from skate.data._operators.row_pipeline import RowPipeline
from skate.data._plan.logical import Apply, Blocks, Read
from skate.data._plan.names import operations
from skate.data._task.operators import Operator
from skate.data._verbs.core import Core


class Calling(Core):
    """``as_callable``."""

    def as_callable(self) -> RowPipeline:
        """Return the operations of this data set as one callable, for rows that come one by one.

        It takes rows as the source of the data set makes them, and does to them what a run does: ``map``,
        ``map_batches``, ``flat_map``, ``filter``, columns and expressions. It does so in the process that
        calls it, so resources and pools have no effect. A service prepares its input by it as a run prepared
        the data of the training.

        Returns:
            A RowPipeline: call it with a row, ``.rows(list)`` or ``.batch(batch)``.

        Raises:
            ValueError: the data set is made of several, or an operation needs all rows: ``sort``, ``join``,
                ``limit``, ...

        Example:
            >>> prepared = skate.data.read_images("photos").map(resize).map_batches(Classifier)
            >>> classify = prepared.as_callable()
            >>> classify({"image": pixels})["label"]
            'cat'
        """
        node = self._plan
        while isinstance(node, Apply):
            node = node.input
        if not isinstance(node, (Read, Blocks)):
            raise ValueError(
                f"as_callable: {node.name} needs all rows of the data set. What can be called is made of "
                "map, map_batches, flat_map, filter and columns, right above what is read"
            )
        operators: list[Operator] = []
        names: list[str] = []
        for operation in operations(self._plan):
            if operation.node is None:
                continue
            operator = copy(operation.node.operator)
            operator.name = operation.name
            operators.append(operator)
            names.append(operation.name)
        return RowPipeline(operators, names)
