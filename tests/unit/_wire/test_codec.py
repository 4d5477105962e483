"""Every message survives the wire, and its bytes are those that they always were.

If the change of a message is meant, raise ``codec.PROTOCOL`` (unless it was raised since the last
release) and write the golden file anew: ``SKATE_UPDATE_GOLDEN=1 pytest tests/unit/_wire``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._wire import zygote
from skate._wire.codec import GARBAGE, MESSAGES, append_frame, decoder, pack, unpack
from skate._wire.framing import FrameReader

from ..effort import effort
from .samples import NESTED, ZYGOTE, Struct, declared, framed, instances, name_of, sample

GOLDEN = Path(__file__).with_name("golden.json")
decode = decoder(frozenset(MESSAGES.values()))

every_message = pytest.mark.parametrize("kind", framed(), ids=name_of)


def _frame(message: Struct) -> bytes:
    out = bytearray()
    append_frame(message, out)
    return bytes(out)


def _bytes_of(kind: type[Struct]) -> bytes:
    if kind in NESTED:
        return pack(sample(kind))
    if kind in ZYGOTE:
        return zygote.encode(sample(kind))
    return _frame(sample(kind))


def _golden() -> dict[str, str]:
    kinds = [*framed(), *NESTED, *ZYGOTE]
    if os.environ.get("SKATE_UPDATE_GOLDEN"):
        now = {name_of(kind): _bytes_of(kind).hex() for kind in kinds}
        GOLDEN.write_text(json.dumps(now, indent=2) + "\n")
    return dict(json.loads(GOLDEN.read_text()))


@every_message
def test_every_message_survives_the_wire(kind: type[Struct]) -> None:
    (body,) = FrameReader().feed(_frame(sample(kind)))
    assert decode(body) == sample(kind)


@every_message
@effort(15)
@given(st.data())
def test_every_instance_of_every_message_survives_the_wire(kind: type[Struct], data: st.DataObject) -> None:
    message = data.draw(instances(kind))
    (body,) = FrameReader().feed(_frame(message))
    again = decode(body)
    assert type(again) is kind
    assert again == message


@pytest.mark.parametrize("kind", [*framed(), *NESTED, *ZYGOTE], ids=name_of)
def test_the_bytes_are_those_of_the_golden_file(kind: type[Struct]) -> None:
    assert _golden().get(name_of(kind)) == _bytes_of(kind).hex(), __doc__


def test_the_golden_file_has_every_message_and_no_other() -> None:
    assert list(_golden()) == [name_of(kind) for kind in [*framed(), *NESTED, *ZYGOTE]]


@every_message
def test_what_was_written_long_ago_is_still_read(kind: type[Struct]) -> None:
    (body,) = FrameReader().feed(bytes.fromhex(_golden()[name_of(kind)]))
    assert decode(body) == sample(kind)


@pytest.mark.parametrize("kind", NESTED, ids=name_of)
def test_structs_inside_of_messages_survive(kind: type[Struct]) -> None:
    assert unpack(pack(sample(kind)), type=kind) == sample(kind)


@pytest.mark.parametrize("kind", ZYGOTE, ids=name_of)
def test_messages_of_the_zygote_survive(kind: type[Struct]) -> None:
    decode = zygote.decode_request if kind in (zygote.Spawn, zygote.Preload) else zygote.decode_report
    assert decode(zygote.encode(sample(kind))) == sample(kind)


@pytest.mark.parametrize("kind", ZYGOTE, ids=name_of)
def test_a_zygote_and_its_daemon_do_not_read_their_own_messages(kind: type[Struct]) -> None:
    decode = zygote.decode_report if kind in (zygote.Spawn, zygote.Preload) else zygote.decode_request
    with pytest.raises(GARBAGE):
        decode(zygote.encode(sample(kind)))


def test_every_tag_names_one_message() -> None:
    tagged = [kind for kind in declared() if kind.__struct_config__.tag is not None]
    tags = [kind.__struct_config__.tag for kind in tagged]
    assert len(set(tags)) == len(tags)
    assert set(MESSAGES.values()) == set(tagged)
    assert {kind for kind in declared() if kind not in tagged} == set(NESTED)


def test_messages_are_frozen_and_travel_as_arrays() -> None:
    for kind in framed():
        assert kind.__struct_config__.frozen, name_of(kind)
        assert kind.__struct_config__.array_like, name_of(kind)


def test_every_message_says_who_sends_it() -> None:
    for kind in declared():
        assert (kind.__doc__ or "").strip(), name_of(kind)


def test_frames_are_appended_to_what_is_there() -> None:
    out = bytearray()
    for kind in framed():
        append_frame(sample(kind), out)
    assert [decode(body) for body in FrameReader().feed(bytes(out))] == [sample(kind) for kind in framed()]


@given(st.binary(max_size=60))
def test_garbage_raises_what_a_connection_expects(body: bytes) -> None:
    try:
        decode(body)
    except GARBAGE:
        pass


@every_message
@effort(15)
@given(st.integers(0, 60), st.integers(0, 255))
def test_a_damaged_message_raises_what_a_connection_expects(
    kind: type[Struct], place: int, byte: int
) -> None:
    body = bytearray(_frame(sample(kind))[4:])
    body[place % len(body)] = byte
    try:
        decode(bytes(body))
    except GARBAGE:
        pass


def test_garbage_that_is_nested_without_end_raises_what_a_connection_expects() -> None:
    body = b"\x92\x3e" + b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(GARBAGE):
        decode(body)
