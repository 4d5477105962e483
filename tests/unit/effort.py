"""How hard hypothesis tries. ``SKATE_TEST_EXAMPLES=20`` makes every search twenty times longer."""

from __future__ import annotations

import os

from hypothesis import settings

FACTOR = float(os.environ.get("SKATE_TEST_EXAMPLES", "1"))


def examples(count: int) -> int:
    """Return how many examples a test shall try that is content with ``count`` in a quick run."""
    return max(1, round(count * FACTOR))


def effort(count: int, *, steps: int = 50) -> settings:
    """Return settings for a test: so many examples; ``steps`` is for rule-based ones."""
    return settings(max_examples=examples(count), stateful_step_count=steps)
