"""Every message says who sends it to whom."""

from __future__ import annotations

import inspect
import re

import msgspec
import pytest

from skate._wire import control, node, worker, zygote

MODULES = (worker, node, control, zygote)
#: Parts of other messages: not sent by themselves.
NESTED = {"ActorSpec", "FoundActor", "GroupSpec", "NodeInfo", "Requirement"}


def _messages() -> list[type[msgspec.Struct]]:
    return [
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ]


@pytest.mark.parametrize("kind", _messages(), ids=lambda kind: kind.__name__)
def test_a_message_says_who_sends_it_to_whom(kind: type[msgspec.Struct]) -> None:
    text = inspect.getdoc(kind)
    assert text, "no word about it"
    if kind.__name__ not in NESTED:
        assert re.match(r"[A-Z][\w ()`,']* to [\w (),'`]+[:,.]", text), "begin with: Who to whom"


def test_there_are_messages_and_their_parts() -> None:
    names = {kind.__name__ for kind in _messages()}
    assert len(names) > 50
    assert {"Call", "Reply", "LeaseDemand", "CreateActor", "Spawn"} <= names


def test_fields_that_were_always_there_have_no_defaults_before_others() -> None:
    """msgspec sends arrays: what is added later comes last, with a default, so that old frames can be read."""
    for kind in _messages():
        fields = msgspec.structs.fields(kind)
        required = [field.required for field in fields]
        assert required == sorted(required, reverse=True), kind
