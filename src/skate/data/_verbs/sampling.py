"""Random samples of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skate.data._plan.logical import Apply
from skate.data._verbs.core import Core
from skate.data._verbs.randomness import sample_of
from skate.data.seeds import RandomSeedConfig

if TYPE_CHECKING:
    from typing_extensions import Self


class Sampling(Core):
    """``random_sample``."""

    def random_sample(self, fraction: float, *, seed: int | RandomSeedConfig | None = None) -> Self:
        """Return each row with a probability.

        Args:
            fraction: the probability, from 0 to 1; about as large a part of the rows is returned.
            seed: the same seed gives the same rows, whatever the number of workers. None: others in each
                execution.

        Returns:
            A Dataset; nothing runs yet.

        Raises:
            ValueError: a fraction below 0 or above 1.

        Example:
            >>> ds.random_sample(0.1, seed=1)
        """
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
            raise TypeError(f"random_sample(fraction) must be a number from 0 to 1, got {fraction!r}")
        return self._over(Apply(self._plan, sample_of(fraction, seed)))
