"""Faults that a comparison of runs must find: each makes a role depend on more than the program and its seed."""

from __future__ import annotations

import random
from collections.abc import Mapping

from skate._base import ids
from skate._node.cluster.membership import Membership

_report_free = Membership.report_free


def _in_the_order_of_a_set(self: Membership, available: Mapping[str, int]) -> None:
    _report_free(self, {name: available[name] for name in set(available)})


def _walk_through_a_set() -> None:
    Membership.report_free = _in_the_order_of_a_set  # type: ignore[method-assign]


def _take_random_bytes_of_the_machine() -> None:
    ids.random_bytes = random.SystemRandom().randbytes


MUTANTS = {"set": _walk_through_a_set, "random": _take_random_bytes_of_the_machine}
