"""The key-value table against a dict of dicts, and what it wants written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._control.kv import KeyValues, storage_key

KEYS = st.sampled_from([b"", b"a", b"ab", b"abc", b"b"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "exists", "put", "delete", "delete_prefix", "list"]),
              st.sampled_from([b"", b"a", b"n"]), KEYS, st.binary(max_size=2), st.booleans()),
    max_size=40,
)  # fmt: skip


@given(STEPS)
def test_it_is_a_dict_for_each_namespace(steps: list[Any]) -> None:
    table, stored = KeyValues(), dict[bytes, bytes]()
    model: dict[tuple[bytes, bytes], bytes] = {}
    for operation, namespace, key, value, overwrite in steps:
        answer, writes = table.handle(operation, namespace, key, value, overwrite)
        for name, written in writes:
            if written is None:
                del stored[name]
            else:
                stored[name] = written
        there = (namespace, key) in model
        under = sorted(k for n, k in model if n == namespace and k.startswith(key))
        if operation == "get":
            assert answer == model.get((namespace, key))
        elif operation == "exists":
            assert answer is there
        elif operation == "list":
            assert answer == under
        elif operation == "put":
            assert answer is there
            if overwrite or not there:
                model[namespace, key] = value
        else:
            gone = ([key] if there else []) if operation == "delete" else under
            assert answer == len(gone)
            for one in gone:
                del model[namespace, one]
    assert stored == {storage_key(*pair): value for pair, value in model.items()}
    again = KeyValues()
    for name, value in stored.items():
        again.restore(name, value)
    for (namespace, key), value in model.items():
        assert again.handle("get", namespace, key, b"", False) == (value, [])


def test_pairs_do_not_meet_in_storage() -> None:
    assert storage_key(b"a", b"bc") != storage_key(b"ab", b"c")


def test_an_unknown_operation() -> None:
    with pytest.raises(ValueError, match="no operation 'rename'"):
        KeyValues().handle("rename", b"", b"", b"", True)
