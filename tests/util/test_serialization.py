"""register_serializer, inspect_serializability, log_once, addresses, and the lazy package."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import skate
import skate.util
from skate.util import debug
from skate.util.check_serialize import FailureTuple


class Wire:
    """Cannot be pickled."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()


@pytest.fixture
def registered() -> Iterator[None]:
    skate.util.register_serializer(Wire, serializer=lambda wire: wire.url, deserializer=Wire)
    yield
    skate.util.deregister_serializer(Wire)


@skate.remote
def url_of(wire: Wire) -> str:
    return wire.url


@pytest.mark.usefixtures("runtime", "registered")
class TestRegistered:
    def test_as_an_argument_and_in_a_structure(self) -> None:
        assert skate.get(url_of.remote(Wire("a"))) == "a"
        assert skate.get(skate.put([Wire("b")]))[0].url == "b"

    def test_not_in_other_processes(self) -> None:
        @skate.remote
        def make() -> Wire:
            return Wire("c")

        @skate.remote
        class Maker:
            def make(self) -> Wire:
                skate.util.register_serializer(Wire, serializer=lambda wire: wire.url, deserializer=Wire)
                return Wire("d")

        with pytest.raises(TypeError, match="lock"):
            skate.get(make.remote())
        assert skate.get(Maker.remote().make.remote()).url == "d"

    def test_until_it_is_forgotten(self) -> None:
        skate.util.deregister_serializer(Wire)
        skate.util.deregister_serializer(Wire)
        with pytest.raises(TypeError):
            skate.put(Wire("a"))


def test_registration_checks_its_arguments() -> None:
    with pytest.raises(TypeError, match="class"):
        skate.util.register_serializer(5, serializer=str, deserializer=str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="serializer"):
        skate.util.register_serializer(Wire, serializer=5, deserializer=str)  # type: ignore[arg-type]


def inspect(value: Any, **options: Any) -> tuple[bool, list[FailureTuple], str]:
    out = io.StringIO()
    ok, culprits = skate.util.inspect_serializability(value, print_file=out, **options)
    return ok, list(culprits), out.getvalue()


@pytest.mark.parametrize("value", [1, [1, {"a": (2,)}], len, lambda: 5, Wire])
def test_what_can_be_pickled(value: Any) -> None:
    ok, culprits, report = inspect(value, name="it")
    assert ok
    assert culprits == []
    assert "it: can be sent" in report


def test_the_culprit_is_found() -> None:
    lock = threading.Lock()

    def function() -> Any:
        return lock

    ok, culprits, report = inspect(function)
    assert not ok
    [one] = culprits
    assert (one.obj, one.path, one.parent) == (lock, ("lock",), function)
    assert "function" in report
    assert "lock" in repr(one)


def test_deep_in_a_structure() -> None:
    wire = Wire("a")
    ok, [one], _ = inspect({"wires": [wire]})
    assert not ok
    assert (one.path, one.parent) == (("['wires']", "[0]", "lock"), wire)


def test_depth_limits_the_search() -> None:
    wires = {"wires": [Wire("a")]}
    _, [one], _ = inspect(wires, depth=1)
    assert one.path == ("['wires']",)
    _, [one], _ = inspect(wires, depth=0)
    assert one.obj is wires


def test_a_registered_class_can_be_pickled(registered: None) -> None:
    assert inspect(Wire("a"))[0]


def test_refs_can_be_pickled(runtime: None) -> None:
    assert inspect([skate.put(1)])[0]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> debug._Once:
    monkeypatch.setattr(debug, "_once", debug._Once())
    return debug._once


def test_log_once(logged: debug._Once) -> None:
    assert [skate.util.log_once("a"), skate.util.log_once("a"), skate.util.log_once("b")] == [
        True,
        False,
        True,
    ]
    debug.reset_log_once("a")
    assert [skate.util.log_once("a"), skate.util.log_once("b")] == [True, False]
    debug.reset_log_once()
    assert skate.util.log_once("b")
    skate.util.disable_log_once_globally()
    assert not skate.util.log_once("c")


def test_log_once_in_a_while(logged: debug._Once, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(debug, "monotonic", lambda: now)
    skate.util.enable_periodic_logging()
    assert skate.util.log_once("a")
    now = 59.0
    assert not skate.util.log_once("a")
    now = 61.0
    assert skate.util.log_once("a")


def test_addresses(runtime: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert skate.util.get_node_ip_address() == skate.nodes()[0]["NodeManagerAddress"]
    assert skate.util.get_node_ip_address("127.0.0.1:53") == "127.0.0.1"
    monkeypatch.setenv("RAY_CLOUD_INSTANCE_ID", "i-7")
    assert skate.util.get_node_instance_id() == "i-7"


def test_every_name_is_there() -> None:
    for name in skate.util.__all__:
        assert getattr(skate.util, name) is not None
        assert name in dir(skate.util)
    with pytest.raises(AttributeError, match="nothing"):
        skate.util.nothing  # noqa: B018
