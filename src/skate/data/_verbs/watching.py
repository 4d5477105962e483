"""Views of an execution: limits, predictions, rows under way, traces and pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from skate.data._block.rows import iter_rows
from skate.data._insight.limits import Why, why
from skate.data._insight.picture import picture
from skate.data._insight.prediction import Prediction
from skate.data._insight.trace import trace_events
from skate.data._verbs.core import Core
from skate.data._verbs.predicting import predicted


class Watching(Core):
    """``why``, ``predict``, ``peek``, ``timeline``, ``plot_run``."""

    def why(self) -> Why:
        """Return what limits this data set's execution, or limited its last one.

        Returns:
            Which stage limits, and what the time of each replica went into; ``print`` shows it. It can be
            called from another thread while the data set runs.

        Raises:
            RuntimeError: the data set has not run.

        Example:
            >>> embedded = ds.map_batches(Embed, batch_size=32).materialize()
            >>> print(embedded.why())
        """
        return why(self._observed("why").stats)

    def predict(self, sample: int = 100) -> Prediction:
        """Run the plan over the first rows of its source, and return what all of it will need.

        It runs over one row twice, so that starts and first calls are not taken for work, and then over the
        sample.

        Args:
            sample: rows to read; where so few take less than a tenth of a second, or most of that time does
                not depend on their number, more are read, for about two seconds.

        Returns:
            Seconds, memory and the stage that will limit; seconds only if the number of rows is known, or
            can be estimated from the bytes of the source.

        Raises:
            ValueError: the data set has several sources, or none.

        Example:
            >>> print(ds.map(decode).predict())
        """
        return predicted(self._plan, self._context, sample, "predict")

    def peek(self, stage: str, n: int = 3) -> list[dict[str, Any]]:
        """Return rows that lie at this moment before a stage of the running execution, or that it works on.

        Call it from another thread while the data set is iterated over or written.

        Args:
            stage: a part of the stage's name: ``"MapBatches(embed)"``; ``""``: rows that the consumer takes
                next.
            n: most rows.

        Raises:
            RuntimeError: the data set is not running.
            ValueError: there is no such stage, or more than one; the text names them.

        Example:
            >>> ds.peek("embed", n=1)
        """
        execution = self._running
        if execution is None:
            raise RuntimeError(
                "peek() looks at an execution that runs: call it from another thread meanwhile"
            )
        pieces = execution.pieces_before(stage)
        rows: list[dict[str, Any]] = []
        for piece in pieces:
            rows += list(iter_rows(execution.fetch(piece.rows(0, n - len(rows)))))
            if len(rows) >= n:
                break
        return rows

    def timeline(self, filename: str | os.PathLike[str] | None = None) -> list[dict[str, Any]] | None:
        """Return the tasks of the last execution as events of Chrome's trace format, or write them to a file.

        Args:
            filename: a file for chrome://tracing or Perfetto; None: return the events.

        Raises:
            RuntimeError: the data set has not run.
        """
        events = trace_events(self._observed("timeline").stats)
        if filename is None:
            return events
        Path(filename).write_text(json.dumps(events))
        return None

    def plot_run(self, filename: str | os.PathLike[str] | None = None) -> str:
        """Return a picture of the last execution as SVG: a lane for each process, a bar for each task.

        Args:
            filename: a file to write it to, as well.

        Raises:
            RuntimeError: the data set has not run.

        Example:
            >>> ds.materialize().plot_run("run.svg")
        """
        drawn = picture(self._observed("plot_run").stats, self._name or "")
        if filename is not None:
            Path(filename).write_text(drawn)
        return drawn

    def _observed(self, verb: str) -> Any:
        """Return the execution that runs, or what is left of the last one."""
        found = self._running if self._running is not None else self._last
        if found is None or found.stats is None:
            raise RuntimeError(
                f"{verb}() tells of an execution: run the data set first, or call it while it runs"
            )
        return found
