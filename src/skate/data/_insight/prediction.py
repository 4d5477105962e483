"""Predicts an execution from one over a few rows: seconds, memory, and what will limit it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from skate.data._exec.budget import FIRST_GUESS_BYTES
from skate.data._exec.statistics import Statistics
from skate.data._insight.limits import why


@dataclass(frozen=True)
class Prediction:
    """Time and memory that an execution will need. ``print`` it, or read its fields.

    Attributes:
        sample_rows: rows that were read for it.
        total_rows: rows of the source; None: not known, and then neither are seconds.
        seconds: of the whole execution, on the CPUs of this session.
        cpu_seconds: of work, summed over processes.
        peak_bytes: memory of tasks that run at a time, with their blocks.
        stage: the stage with the most work.
        part: its part of the work.
    """

    sample_rows: int
    total_rows: int | None
    seconds: float | None
    cpu_seconds: float | None
    peak_bytes: int
    stage: str
    part: float

    def __str__(self) -> str:
        lines = [f"From {self.sample_rows:,} rows:"]
        if self.total_rows is None:
            lines.append("  the source does not know its number of rows, so seconds cannot be predicted")
        else:
            lines.append(
                f"  {self.total_rows:,} rows will take about {self.seconds:.1f} s ({self.cpu_seconds:.1f} s "
                f"of work)"
            )
        lines.append(f"  memory: about {self.peak_bytes / 1e6:,.0f} MB at a time")
        lines.append(f"  {self.stage} will limit: it has {self.part:.0%} of the work")
        return "\n".join(lines)


def predict(stats: Statistics, sample_rows: int, total_rows: int | None, cpus: float) -> Prediction:
    """Return what the whole execution will need.

    Args:
        stats: of an execution over the first rows.
        sample_rows: rows that it read.
        total_rows: rows of the source; None: not known.
        cpus: CPUs that the whole execution may use.
    """
    explained = why(stats)
    work = sum(one.seconds for one in explained.stages)
    largest = max(explained.stages, key=lambda one: one.seconds)
    replicas_s = max((one.ready_s or 0.0 for one in stats.replicas.values()), default=0.0)
    cpu_seconds = seconds = None
    if total_rows is not None:
        cpu_seconds = work / max(1, sample_rows) * total_rows
        seconds = replicas_s + cpu_seconds / max(1.0, cpus)
    tasks = max(1, int(cpus))
    peak = sum(min(stage.peak_bytes or FIRST_GUESS_BYTES, FIRST_GUESS_BYTES * 4) for stage in stats.stages)
    return Prediction(sample_rows, total_rows, seconds, cpu_seconds, peak * tasks, largest.name, largest.part)
