"""Plans of a data set, figures of its last execution, and rows that failed."""

from __future__ import annotations

import os
from typing import Any

from skate.data._block.rows import iter_rows
from skate.data._operators.dead_letters import letters_to_table, rows_of
from skate.data._plan.physical import Machine, to_stages
from skate.data._plan.rules import optimise
from skate.data._verbs import from_memory, printing, randomness
from skate.data._verbs.core import Core, LastRun, check_same_kind
from skate.data._verbs.predicting import predicted
from skate.data._verbs.retrying import retried


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
        stats = None if self._last is None else self._last.stats
        return "" if stats is None else str(stats.as_text())

    def get_stats_summary(self, detail: bool = False) -> dict[str, Any]:
        """Return the figures of the last execution as plain data; empty before the first.

        Args:
            detail: accepted for Ray's sake: all there is, is there.
        """
        stats = None if self._last is None else self._last.stats
        return {} if stats is None else dict(stats.as_data())

    def _run(self, verb: str) -> LastRun:
        if self._last is None:
            raise RuntimeError(f"{verb}() tells of the last execution: run the data set first")
        return self._last

    def dead_letters(self) -> Any:
        """Return the rows that failed in the last execution, where ``on_error="dead_letter"`` said so.

        A write that was resumed has those of the runs before it, too.

        Returns:
            A MaterializedDataset with the columns ``row`` (the row as it was), ``error_type``, ``error``,
            ``traceback``, ``stage``, ``path``, ``row_id``, ``attempts`` and ``operation``: the place of the
            stage in its plan.

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

        The rows go to the operation that failed, and to those above it. It is the one with the name of the
        letters' stage, ``"Map(parse)"``: its function may be another, repaired one. Where a name does not
        tell, because several operations have it or the function is a lambda, the operation must also stand at
        the same place in the plan.

        Args:
            dead_letters: what ``dead_letters()`` returned, or a data set read from such files, also in
                another program.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: the letters are of several operations, or of one that this data set does not have or
                has at another place; or it puts the rows together with those of another source.

        Example:
            >>> again = fixed.retry(decoded.dead_letters())
        """
        check_same_kind("retry", (dead_letters,))
        letters = [table for table in dead_letters._tables() if table.num_rows]
        if letters and "stage" not in letters[0].column_names:
            raise ValueError(
                "retry() takes what dead_letters() returned, or a data set read from such files; this one "
                f"has the columns {letters[0].column_names}"
            )
        origins: dict[tuple[str, int | None], None] = {}
        for table in letters:
            names = [name for name in ("stage", "operation") if name in table.column_names]
            for row in iter_rows(table.select(names)):
                origins[row["stage"], row.get("operation")] = None
        rows = [row for table in letters for row in rows_of(table)]
        return self._over(retried(self._plan, list(origins), rows))


def _stage_lines(stages: Any) -> list[str]:
    lines = []
    for stage in stages:
        below = f" <- {', '.join(map(str, stage.inputs))}" if stage.inputs else ""
        pool = ""
        if stage.pool is not None:
            pool = f", replicas {stage.pool.min_size} to {stage.pool.max_size}"
        lines.append(f"{stage.index} {stage.name} ({stage.kind.value}{pool}){below}")
    return lines
