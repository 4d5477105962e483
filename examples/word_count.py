"""Word count: map over parts of a text in parallel, then reduce pairs of counts as they get ready.

Run it: ``python examples/word_count.py``
"""

from __future__ import annotations

import random
from collections import Counter

import skate

WORDS = [
    "skates",
    "are",
    "the",
    "light",
    "cousins",
    "of",
    "rays",
    "and",
    "live",
    "near",
    "the",
    "ground",
    "of",
    "the",
    "sea",
]


def make_text(seed: int, words: int) -> str:
    """Return a text that nobody wrote."""
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) for _ in range(words))


@skate.remote
def count(text: str) -> Counter[str]:
    return Counter(text.split())


@skate.remote
def merge(first: Counter[str], second: Counter[str]) -> Counter[str]:
    return first + second


def main() -> None:
    skate.init()
    parts = [make_text(seed, 5_000) for seed in range(16)]
    counts = [count.remote(part) for part in parts]
    while len(counts) > 1:
        # Whichever two are ready first are merged first.
        ready, rest = skate.wait(counts, num_returns=2)
        counts = [*rest, merge.remote(*ready)]
    total = skate.get(counts[0])
    for word, times in total.most_common(3):
        print(f"{times:6d} {word}")
    assert total == Counter(" ".join(parts).split())
    assert total.most_common(1)[0][0] == "the"
    skate.shutdown()


if __name__ == "__main__":
    main()
