"""What is written of an actor is the whole of it."""

from __future__ import annotations

import pytest

from skate._control.actors import ActorRecord, ActorState
from skate._control.stored import dump_actor, load_actor
from skate._wire.codec import pack
from skate._wire.control import ActorSpec

from .._wire.samples import sample


@pytest.mark.parametrize("state", ActorState)
def test_a_record_is_read_as_it_was_written(state: ActorState) -> None:
    spec = sample(ActorSpec)
    assert isinstance(spec, ActorSpec)
    actor = ActorRecord(b"actor", spec, pack(spec))
    actor.state = state
    # Every other field another value than a new record's.
    for number, field in enumerate(
        sorted(set(ActorRecord.__slots__) - {"id", "spec", "spec_bytes", "state"})
    ):
        kind = type(getattr(actor, field))
        value = {int: number, bool: True, str: field, bytes: field.encode(), list: [1.0, 2.0, float(number)]}[
            kind
        ]
        setattr(actor, field, value)
    read = load_actor(b"actor", dump_actor(actor))
    for field in ActorRecord.__slots__:
        assert getattr(read, field) == getattr(actor, field), field
