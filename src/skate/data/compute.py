"""How a function runs: as tasks, or on a pool of replicas that keep their instances."""

from __future__ import annotations

import math


class ComputeStrategy:
    """The base of the two strategies."""


class TaskPoolStrategy(ComputeStrategy):
    """Run a function as tasks.

    Args:
        size: most tasks at a time; None: as many as resources allow.

    Example:
        >>> ds.map(decode, compute=TaskPoolStrategy(size=4))
    """

    def __init__(self, size: int | None = None) -> None:
        if size is not None and (not _is_count(size) or size < 1):
            raise ValueError(
                f"TaskPoolStrategy(size=) must be a number of tasks of at least 1 or None, got {size!r}"
            )
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskPoolStrategy) and self.size == other.size

    def __hash__(self) -> int:
        return hash((TaskPoolStrategy, self.size))

    def __repr__(self) -> str:
        return f"TaskPoolStrategy(size={self.size})"


class ActorPoolStrategy(ComputeStrategy):
    """Run a class on replicas: processes that make an instance each and keep it.

    Args:
        size: the number of replicas; without ``min_size``, ``max_size`` and ``initial_size``.
        min_size: replicas that are kept while there is input; 0 is allowed. Default 1.
        max_size: most replicas; None: as many as resources allow.
        initial_size: replicas to start with, at once; None: as many as resources allow.
        max_tasks_in_flight_per_actor: tasks that a replica is given at a time; None: chosen.
        max_concurrent_calls_per_actor: calls that run at a time in a replica; for async functions.
        enable_true_multi_threading: accepted for Ray's sake; functions of one replica run one at a time
            unless
            they are async.

    Raises:
        ValueError: sizes that exclude each other or are out of range.

    Example:
        >>> ds.map_batches(Embed, batch_size=32, compute=ActorPoolStrategy(min_size=1, max_size=4))
    """

    #: Kept for programs that print it.
    ready_to_total_workers_ratio = 0.8

    def __init__(
        self,
        *,
        size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        initial_size: int | None = None,
        max_tasks_in_flight_per_actor: int | None = None,
        max_concurrent_calls_per_actor: int | None = None,
        enable_true_multi_threading: bool | None = None,
    ) -> None:
        if size is not None:
            if min_size is not None or max_size is not None or initial_size is not None:
                raise ValueError(
                    "ActorPoolStrategy takes either size= or min_size=, max_size=, initial_size="
                )
            if not _is_count(size) or size < 1:
                raise ValueError(f"ActorPoolStrategy(size=) must be at least 1, got {size!r}")
            min_size = max_size = initial_size = size
        least = 1 if min_size is None else min_size
        if not _is_count(least) or least < 0:
            raise ValueError(
                f"ActorPoolStrategy(min_size=) must be a number of replicas of at least 0, got {least!r}"
            )
        most: float = math.inf if max_size is None else max_size
        if most != math.inf and (not _is_count(max_size) or most < 1):
            raise ValueError(f"ActorPoolStrategy(max_size=) must be at least 1 or None, got {max_size!r}")
        if least > most:
            raise ValueError(f"ActorPoolStrategy(min_size={least}) is above max_size={max_size}")
        if initial_size is None and least == most:
            initial_size = int(least)
        if initial_size is not None and not (_is_count(initial_size) and least <= initial_size <= most):
            raise ValueError(
                f"ActorPoolStrategy(initial_size={initial_size!r}) must be from min_size={least} to "
                f"max_size={most}"
            )
        for name, value in (
            ("max_tasks_in_flight_per_actor", max_tasks_in_flight_per_actor),
            ("max_concurrent_calls_per_actor", max_concurrent_calls_per_actor),
        ):
            if value is not None and (not _is_count(value) or value < 1):
                raise ValueError(f"ActorPoolStrategy({name}=) must be at least 1 or None, got {value!r}")
        self.min_size = int(least)
        self.max_size = most
        self.initial_size = initial_size
        self.max_tasks_in_flight_per_actor = max_tasks_in_flight_per_actor
        self.max_concurrent_calls_per_actor = max_concurrent_calls_per_actor
        self._enable_true_multi_threading = bool(enable_true_multi_threading)

    @property
    def num_workers(self) -> int:
        """Always 0: the replicas that run are in ``Dataset.stats()``."""
        return 0

    @property
    def enable_true_multi_threading(self) -> bool:
        """Whether it was asked for."""
        return self._enable_true_multi_threading

    def _key(self) -> tuple[object, ...]:
        return (
            self.min_size,
            self.max_size,
            self.initial_size,
            self.max_tasks_in_flight_per_actor,
            self.max_concurrent_calls_per_actor,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorPoolStrategy) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return (
            f"ActorPoolStrategy(min_size={self.min_size}, max_size={self.max_size}, "
            f"initial_size={self.initial_size}, "
            f"max_tasks_in_flight_per_actor={self.max_tasks_in_flight_per_actor}, "
            f"max_concurrent_calls_per_actor={self.max_concurrent_calls_per_actor}, "
            f"num_workers={self.num_workers}, "
            f"ready_to_total_workers_ratio={self.ready_to_total_workers_ratio})"
        )


def _is_count(value: object) -> bool:
    """Tell whether something is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)
