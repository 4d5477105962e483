"""Seeds of random operations: of rows, and of the order of files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any


@dataclass
class RandomSeedConfig:
    """A seed, and whether it changes from one execution to the next.

    Attributes:
        seed: a whole number; None: no seed was given.
        reseed_after_execution: draw another order in the next execution of the same data set.
        use_timestamp_as_default: without a seed, take the clock at the start of the execution.

    Raises:
        ValueError: a negative seed, or a seed together with ``use_timestamp_as_default``.
    """

    seed: int | None = None
    reseed_after_execution: bool = True
    use_timestamp_as_default: bool = False

    def __post_init__(self) -> None:
        _check(type(self).__name__, self.seed)
        if self.seed is not None and self.use_timestamp_as_default:
            raise ValueError("RandomSeedConfig(use_timestamp_as_default=True) cannot be given with a seed")

    @classmethod
    def create_seed_config(
        cls, seed: int | RandomSeedConfig | None, *, use_timestamp_as_default: bool = False
    ) -> RandomSeedConfig:
        """Return a configuration for what a user gave as a seed.

        Args:
            seed: a number (the same order in every execution), a configuration, or None.
            use_timestamp_as_default: see the attribute.

        Returns:
            The configuration.
        """
        if isinstance(seed, RandomSeedConfig):
            return seed
        return cls(
            seed=seed,
            reseed_after_execution=seed is None,
            use_timestamp_as_default=use_timestamp_as_default and seed is None,
        )

    def get_seed_tuple(self, *, data_context: Any) -> tuple[int, ...]:
        """Return the numbers that seed an execution.

        Args:
            data_context: its ``_execution_idx``, if it has one, counts the executions.

        Returns:
            An empty tuple without a seed; the seed alone, or the seed and the number of the execution.
        """
        if self.seed is None:
            return (time.time_ns(),) if self.use_timestamp_as_default else ()
        if not self.reseed_after_execution:
            return (self.seed,)
        return (self.seed, int(getattr(data_context, "_execution_idx", 0)))


@dataclass
class FileShuffleConfig:
    """Reads files in a random order: ``read_images(..., shuffle=FileShuffleConfig(seed=1))``.

    Attributes:
        seed: a whole number; None: another order in each execution.
        reseed_after_execution: with a seed, draw another order in the next execution of the same data set.
    """

    seed: int | None = None
    reseed_after_execution: bool = True

    def __post_init__(self) -> None:
        _check(type(self).__name__, self.seed)

    def get_seed(self, execution_idx: int = 0) -> int | None:
        """Return the seed of an execution.

        Args:
            execution_idx: how many executions came before.

        Returns:
            A number, or None without a seed.
        """
        if self.seed is None:
            return None
        return hash((self.seed, execution_idx)) & 0x7FFFFFFF if self.reseed_after_execution else self.seed


def _check(name: str, seed: object) -> None:
    if seed is None:
        return
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"{name}(seed=) must be a whole number of at least 0 or None, got {seed!r}")
