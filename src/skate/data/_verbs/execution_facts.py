"""Plans of a data set, figures of its last execution, and rows that failed."""

from __future__ import annotations

import os
from typing import Any

from skate.data._block.rows import iter_rows
from skate.data._operators.dead_letters import letters_to_table, rows_of
from skate.data._plan.logical import Blocks, Node, Read
from skate.data._plan.physical import Machine, to_stages
from skate.data._plan.rules import optimise
from skate.data._verbs import facts, from_memory, printing, randomness
from skate.data._verbs.core import Core, LastRun
from skate.data._verbs.predicting import predicted


class ExecutionFacts(Core):
    """``explain``, ``stats``, ``dead_letters``, ``retry``."""

    def explain(self, sample: int | None = None) -> None:
        """Print what the data set would do: its plan, the plan after all rules, and the stages of both.

        Args:
            sample: rows of the source to run the plan over, to print what all of it will need as well: see
                ``predict``, which says when more are read; None: nothing runs.

        Raises:
            ValueError: ``sample`` is given, and the data set has several sources, or none.

        Example:
            >>> ds.map(decode).explain(sample=100)
        """
        context = self._context
        prediction = None if sample is None else predicted(self._plan, context, sample, "explain")
        plan = randomness.for_execution(self._plan, context.executions)
        best = optimise(plan)
        machine = Machine(float(os.cpu_count() or 1), context=context)
        stages = to_stages(best, machine)
        print("-------- Logical Plan --------")
        print("\n".join(printing.tree(plan, self._name)))
        print("\n-------- Logical Plan (Optimized) --------")
        print("\n".join(printing.tree(best, self._name)))
        print("\n-------- Physical Plan --------")
        print("\n".join(_stage_lines(to_stages(plan, machine))))
        print("\n-------- Physical Plan (Optimized) --------")
        print("\n".join(_stage_lines(stages)))
        if prediction is not None:
            print("\n-------- Prediction --------")
            print(prediction)

    def stats(self) -> str:
        """Return the figures of the last execution, for people: stages, rows, seconds; first empty."""
        return "" if self._last is None else str(self._last.stats.as_text())

    def get_stats_summary(self, detail: bool = False) -> dict[str, Any]:
        """Return the figures of the last execution as plain data; empty before the first.

        Args:
            detail: accepted for Ray's sake: all there is, is there.
        """
        return {} if self._last is None else dict(self._last.stats.as_data())

    def _run(self, verb: str) -> LastRun:
        if self._last is None:
            raise RuntimeError(f"{verb}() tells of the last execution: run the data set first")
        return self._last

    def dead_letters(self) -> Any:
        """Return the rows that failed in the last execution, where ``on_error="dead_letter"`` said so.

        Returns:
            A MaterializedDataset with the columns ``row`` (the row as it was), ``error_type``, ``error``,
            ``traceback``, ``stage``, ``path``, ``row_id`` and ``attempts``.

        Raises:
            RuntimeError: the data set has not run yet.

        Example:
            >>> decoded = ds.map(decode, on_error="dead_letter").materialize()
            >>> decoded.dead_letters().select_columns(["path", "error"]).show()
        """
        table = letters_to_table(list(self._run("dead_letters").letters))
        return self._held([from_memory.whole(table, table)], table.schema, "DeadLetters")

    def retry(self, dead_letters: Any) -> Any:
        """Return this data set's operations over the rows of dead letters.

        Args:
            dead_letters: what ``dead_letters()`` returned, or a data set read from such files.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: letters of other operations than this data set's, or several sources below it.

        Example:
            >>> again = fixed.retry(decoded.dead_letters())
        """
        letters = [table for table in dead_letters._tables() if table.num_rows]
        stages = {row["stage"] for table in letters for row in iter_rows(table.select(["stage"]))}
        plan = _over_rows(self._plan, stages, [row for table in letters for row in rows_of(table)])
        return self._over(plan)


def _over_rows(plan: Node, stages: set[str], rows: list[dict[str, Any]]) -> Node:
    """Return a plan in which rows stand where the operations that failed got theirs."""
    if not stages:
        return from_memory.of_items([], None)
    if len(stages) > 1:
        raise ValueError(
            f"retry() takes the letters of one operation; filter them by stage: {sorted(stages)}"
        )
    (stage,) = stages
    failed = [
        node for node in facts.nodes(plan) if node.name == stage and not isinstance(node, (Read, Blocks))
    ]
    if len(failed) != 1:
        names = [node.name for node in facts.nodes(plan)]
        raise ValueError(
            f"retry(): the letters are of {stage!r}, and this data set has {len(failed)} such operations: "
            f"{names}"
        )
    return randomness.replaced(plan, failed[0].inputs[0], from_memory.of_items(rows, None))


def _stage_lines(stages: Any) -> list[str]:
    lines = []
    for stage in stages:
        below = f" <- {', '.join(map(str, stage.inputs))}" if stage.inputs else ""
        pool = ""
        if stage.pool is not None:
            pool = f", replicas {stage.pool.min_size} to {stage.pool.max_size}"
        lines.append(f"{stage.index} {stage.name} ({stage.kind.value}{pool}){below}")
    return lines
