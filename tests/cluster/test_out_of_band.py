"""Refs that are pickled where the runtime cannot see it: allowed, or forbidden by Ray's variable."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import skate
from skate.exceptions import OufOfBandObjectRefSerializationException, ReferenceCountingAssertionError

VARIABLE = "RAY_allow_out_of_band_object_ref_serialization"


@skate.remote
class Holder:
    def get(self) -> int:
        return 5


def captures(held: Any) -> Any:
    """Return a task that has captured it."""

    @skate.remote
    def uses() -> Any:
        return held

    return uses


def actor_that_captures(held: Any) -> Any:
    """Return an actor class that has captured it."""

    @skate.remote
    class Uses:
        def get(self) -> Any:
            return held

    return Uses


@pytest.mark.parametrize("dumps", [pickle.dumps, skate.cloudpickle.dumps])
def test_it_is_allowed(dumps: Callable[[Any], bytes]) -> None:
    skate.init(num_cpus=1)
    data = dumps([skate.put("kept")])
    (ref,) = pickle.loads(data)
    assert skate.get(ref) == "kept"
    assert skate.get(skate.get(captures(ref).remote())) == "kept"
    skate.shutdown()  # until now it is kept


def test_it_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    skate.init(num_cpus=1)
    ref = skate.put(1)
    for value in ("0", "false"):
        monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(OufOfBandObjectRefSerializationException, match=f"set `{VARIABLE}=1`"):
            skate.cloudpickle.dumps({"inside": [ref]})
        with pytest.raises(OufOfBandObjectRefSerializationException, match=ref.hex()):
            captures(ref).remote()
        with pytest.raises(OufOfBandObjectRefSerializationException, match=ref.hex()):
            actor_that_captures(ref).remote()
    # The runtime sees these.
    assert skate.get(skate.get(skate.put([ref]))) == [1]
    assert skate.get(captures(1).remote()) == 1
    holder = Holder.remote()
    assert skate.cloudpickle.loads(skate.cloudpickle.dumps([holder])) == [holder]
    assert skate.get(captures(holder).remote()) == holder
    # As in Ray, which has a hook in its own pickler alone.
    assert pickle.loads(pickle.dumps(ref)) == ref
    skate.shutdown()  # until now it is kept, and the handle's


def test_it_is_forbidden_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    skate.init(num_cpus=1)

    @skate.remote
    def dump(inside: list[Any]) -> bytes:
        return skate.cloudpickle.dumps(inside[0])

    with pytest.raises(OufOfBandObjectRefSerializationException):
        skate.get(dump.remote([skate.put(1)]))


def test_a_ref_made_without_a_session_is_an_error_in_one() -> None:
    assert not skate.is_initialized()
    made = skate.ObjectRef(b"\1" * skate.ObjectRef.size())
    assert made.owner_address.__self__ is made
    with pytest.raises(RuntimeError, match=r"before init\(\)"):
        made.future()
    with pytest.raises(AttributeError, match="has no attribute 'value'"):
        made.value  # type: ignore[attr-defined]  # noqa: B018
    skate.init(num_cpus=1)
    for wait in (
        lambda: skate.get(made),
        lambda: skate.get(captures(0).options().remote()) or skate.get(made),
    ):
        with pytest.raises(ReferenceCountingAssertionError, match="only its id is known"):
            wait()
    with pytest.raises(ReferenceCountingAssertionError):
        skate.get(skate.remote(lambda value: value).remote(made))
    assert skate.wait([made], timeout=0) == ([made], [])


def test_refs_of_a_session_that_ended_can_be_pickled() -> None:
    skate.init(num_cpus=1)
    ref = skate.put(1)
    data = pickle.dumps(ref)
    skate.shutdown()
    again = pickle.loads(pickle.dumps(ref))
    assert again == ref == pickle.loads(data)
    assert hash(again) == hash(ref)
    assert pickle.dumps(again) == pickle.dumps(pickle.loads(pickle.dumps(again)))
