"""Random programs give what a loop over their rows gives: in this process, and on a session."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import random_programs

from skate.data.context import DataContext

MIB = 1 << 20
#: ``make soak-data`` runs so many times as many plans.
FACTOR = int(os.environ.get("SKATE_DATA_FACTOR", "1"))


def vary(settings: DataContext, seed: int) -> None:
    """Choose sizes of blocks and a budget: no result may depend on them."""
    chance = random.Random(-seed - 1)
    settings.target_max_block_size = chance.choice([128 * MIB, 10_000, 1000, 100])
    settings.memory_limit_bytes = chance.choice([None, 4 * MIB, 100_000])


def check(seed: int, folder: Path, pools: bool) -> None:
    program = random_programs.make(seed, folder, pools=pools)
    expected = program.expected()
    try:
        dataset = program.dataset()
        found = dataset.take_all()
        count = dataset.count()
    except ValueError as error:
        # What a function makes of no rows has no columns, so verbs that name one refuse it.
        if program.is_empty_somewhere() and "there is no column" in str(error):
            return
        raise
    assert random_programs.same(found, expected, program.is_ordered), f"{program}\n{found}\n{expected}"
    assert count == len(expected), str(program)


@pytest.mark.parametrize("seed", range(40 * FACTOR))
def test_in_this_process(seed: int, settings: DataContext, tmp_path: Path) -> None:
    vary(settings, seed)
    check(seed, tmp_path, pools=False)


@pytest.mark.parametrize("seed", range(100, 100 + 15 * FACTOR))
def test_on_a_session(seed: int, far: DataContext, tmp_path: Path) -> None:
    vary(far, seed)
    far.pool_linger_s = 60
    check(seed, tmp_path, pools=True)
