"""Tables and their watchers."""

from __future__ import annotations

from typing import Any

from skate.serve._controller.tables import Watched
from skate.serve._messages import Table


def test_a_watcher_that_is_gone_is_answered_and_forgotten() -> None:
    """Its question is a call that waits in the controller."""
    watched = Watched()
    watched.publish(Table(1))
    answers: list[Any] = []
    watched.ask("one/here", 1, answers.append)
    watched.ask("two", 1, answers.append)
    assert watched.gone("one")
    assert [one.version for one in answers] == [1]
    assert [*watched.known] == ["two"]
    assert not watched.gone("one")
