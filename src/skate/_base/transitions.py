"""Runs state machines from tables; a transition that is not listed is illegal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

S = TypeVar("S")
E = TypeVar("E")


class IllegalTransition(RuntimeError):
    """An event arrived in a state that has no rule for it. Nothing was changed."""

    def __init__(self, entity: str, state: object, event: object) -> None:
        # Hand everything to Exception.args, so that the error survives pickling.
        super().__init__(entity, state, event)
        self.entity, self.state, self.event = entity, state, event

    def __str__(self) -> str:
        return f"{self.entity} is {self.state}; no rule for {self.event}"


class TransitionTable(Generic[S, E]):
    """Holds the rules ``(state, event) -> next state``."""

    def __init__(self, rules: Mapping[tuple[S, E], S]) -> None:
        self.rules = dict(rules)

    def next(self, entity: str, state: S, event: E) -> S:
        """Return the next state, or raise IllegalTransition and change nothing."""
        try:
            return self.rules[state, event]
        except KeyError:
            raise IllegalTransition(entity, state, event) from None
