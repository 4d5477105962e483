"""The handshake: what may be said on a connection, by its state and its peer's kind; and the table of services."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from skate._wire import services
from skate._wire.codec import GARBAGE, MESSAGES, decoder, pack
from skate._wire.handshake import (
    GARBLED,
    LATE,
    PROTOCOL,
    WRONG_PEER,
    WRONG_PROTOCOL,
    WRONG_STATE,
    Handshake,
    Refused,
    State,
    type_of,
)
from skate._wire.services import SERVICES, Service

from .samples import all_of, framed, name_of, sample

every_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.role)
every_kind = pytest.mark.parametrize(
    ("service", "kind"),
    [(service, kind) for service in SERVICES for kind in service.said],
    ids=lambda value: value if isinstance(value, str) else value.role,
)


def hello(service: Service, kind: str, **changes: Any) -> Any:
    """Return a hello that announces this kind of peer."""
    for message, announced in service.hellos.items():
        if announced in (kind, services.IN_HELLO):
            changes = {"protocol": PROTOCOL, **({} if announced else {"kind": kind}), **changes}
            return msgspec.structs.replace(sample(message), **changes)
    raise AssertionError(f"no hello of {service.role} announces a {kind}")


def greeted(service: Service, kind: str) -> Handshake:
    handshake = Handshake(service)
    assert handshake.hello(hello(service, kind)) is None
    return handshake


@every_kind
def test_a_hello_opens_what_its_kind_may_say_and_nothing_else(service: Service, kind: str) -> None:
    handshake = greeted(service, kind)
    assert handshake.state is State.READY
    assert handshake.kind == kind
    assert {message for message in framed() if handshake.is_allowed(message)} == service.said[kind]


@every_service
def test_before_the_hello_only_hellos_are_admitted(service: Service) -> None:
    handshake = Handshake(service)
    assert handshake.state is State.AWAITING_HELLO
    assert {message for message in framed() if handshake.is_allowed(message)} == set(service.hellos)


@every_service
@pytest.mark.parametrize("message", framed(), ids=name_of)
def test_every_message_before_the_hello_is_refused_by_name(service: Service, message: type) -> None:
    if message in service.hellos:
        return
    handshake = Handshake(service)
    refused = handshake.refuse(message)
    assert refused == Refused(WRONG_STATE, f"sent {message.__name__} before its hello")
    assert handshake.state is State.CLOSED
    assert not any(handshake.is_allowed(other) for other in framed())


@every_kind
def test_a_second_hello_is_refused(service: Service, kind: str) -> None:
    handshake = greeted(service, kind)
    refused = handshake.hello(hello(service, kind))
    assert refused is not None
    assert refused.code == WRONG_STATE
    assert "after its hello" in refused.what
    assert handshake.state is State.CLOSED


@every_kind
def test_what_another_kind_says_is_refused_as_such(service: Service, kind: str) -> None:
    others = all_of(service.said) - service.said[kind]
    for message in others:
        refused = greeted(service, kind).refuse(message)
        assert refused == Refused(
            WRONG_PEER, f"sent {message.__name__}, which a {kind} must not send to {service.role}"
        )


@every_kind
def test_another_protocol_is_refused(service: Service, kind: str) -> None:
    handshake = Handshake(service)
    refused = handshake.hello(hello(service, kind, protocol=PROTOCOL + 1))
    assert refused is not None
    assert refused.code == WRONG_PROTOCOL
    assert str(PROTOCOL + 1) in refused.what
    assert handshake.state is State.CLOSED


def test_a_kind_that_is_not_served_is_refused() -> None:
    stranger = msgspec.structs.replace(hello(services.NODE, "driver"), kind="stranger")
    refused = Handshake(services.NODE).hello(stranger)
    assert refused is not None
    assert refused.code == WRONG_PEER
    assert "'stranger'" in refused.what


def test_time_runs_out_before_the_hello_only() -> None:
    handshake = Handshake(services.NODE)
    refused = handshake.overdue(60.0)
    assert refused is not None
    assert refused.code == LATE
    assert "60 s" in refused.what
    assert handshake.overdue(60.0) is None
    assert greeted(services.NODE, "driver").overdue(60.0) is None


@every_kind
def test_nothing_is_admitted_after_the_end(service: Service, kind: str) -> None:
    handshake = greeted(service, kind)
    handshake.closed()
    assert not any(handshake.is_allowed(message) for message in framed())
    late = handshake.hello(hello(service, kind))
    assert late is not None
    assert late.code == WRONG_STATE


# ---------------------------------------------------------------------- the table


def test_every_message_is_in_the_table() -> None:
    in_table: set[type] = {Refused}
    for service in SERVICES:
        in_table |= {*service.hellos, *all_of(service.said), *all_of(service.heard)}
    assert set(framed()) == in_table


@every_service
def test_hellos_are_said_first_only_and_carry_the_protocol(service: Service) -> None:
    assert not set(service.hellos) & all_of(service.said)
    for message in service.hellos:
        assert "protocol" in message.__struct_fields__  # type: ignore[attr-defined]


@every_service
def test_every_kind_hears_something_and_each_announced_kind_is_served(service: Service) -> None:
    assert set(service.heard) == set(service.said)
    assert {kind for kind in service.hellos.values() if kind is not None} <= set(service.said)


# ---------------------------------------------------------------------- decoding


@every_kind
@pytest.mark.parametrize("message", framed(), ids=name_of)
def test_only_what_is_said_is_decoded(service: Service, kind: str, message: type[msgspec.Struct]) -> None:
    body = pack(sample(message))
    decode = decoder(service.said[kind])
    if message in service.said[kind] or message is Refused:
        assert decode(body) == sample(message)
    else:
        with pytest.raises(GARBAGE):
            decode(body)


@pytest.mark.parametrize("message", framed(), ids=name_of)
def test_the_type_of_a_frame_is_found_without_decoding_it(message: type[msgspec.Struct]) -> None:
    body = pack(sample(message))
    assert type_of(body, MESSAGES) is message
    assert type_of(body[:-1], MESSAGES) in (message, None)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc0", b"\x90", b"\x91\xc0", b"\x92\x00\x00", b"\x81\x01\x02", b"\x91" * 5000, b"\xff\xff"],
)
def test_garbage_has_no_type(body: bytes) -> None:
    assert type_of(body, MESSAGES) is None


def test_codes_differ() -> None:
    assert len({GARBLED, LATE, WRONG_PEER, WRONG_PROTOCOL, WRONG_STATE}) == 5
