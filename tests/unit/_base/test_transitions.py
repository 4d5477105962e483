"""A table of rules: what is not listed raises and changes nothing."""

from __future__ import annotations

import pickle

import pytest

from skate._base.transitions import IllegalTransition, TransitionTable

TABLE = TransitionTable({("open", "close"): "closed", ("closed", "open"): "open"})


def test_a_rule_gives_the_next_state() -> None:
    assert TABLE.next("door", "open", "close") == "closed"


def test_what_is_not_listed_is_illegal() -> None:
    with pytest.raises(IllegalTransition, match="^door is open; no rule for open$"):
        TABLE.next("door", "open", "open")


def test_the_error_carries_its_evidence_and_pickles() -> None:
    error = IllegalTransition("door", "open", "open")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.entity, again.state, again.event) == ("door", "open", "open")
