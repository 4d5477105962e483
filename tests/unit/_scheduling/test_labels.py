"""Labels: their syntax, selectors, and what matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate._scheduling import labels
from skate._scheduling.labels import check_labels, describe, matches, parse_labels, selector
from skate._wire.specs import Condition

NODE = {"zone": "a", "disk": "fast", "empty": "", "example.com/kind": "v1.2"}


@pytest.mark.parametrize(
    ("given_", "holds"),
    [
        ({}, True),
        (None, True),
        ({"zone": "a"}, True),
        ({"zone": "b"}, False),
        ({"zone": "!a"}, False),
        ({"zone": "!b"}, True),
        ({"zone": "in(b, a)"}, True),
        ({"zone": "in(b,c)"}, False),
        ({"zone": "!in(b, c)"}, True),
        ({"zone": "!in(a, c)"}, False),
        ({"zone": "in(a)"}, True),
        ({"nothing": "a"}, False),
        ({"nothing": "!a"}, True),
        ({"nothing": "!in(a, b)"}, True),
        ({"empty": ""}, True),
        ({"zone": ""}, False),
        ({"zone": "a", "disk": "fast"}, True),
        ({"zone": "a", "disk": "slow"}, False),
        ({"example.com/kind": "v1.2"}, True),
    ],
)
def test_what_a_selector_matches(given_: Any, holds: bool) -> None:
    assert matches(selector(given_, "it"), NODE) is holds


@pytest.mark.parametrize(
    "value",
    ["-a", "a-", "a b", "in()", "in(a,)", "in(a, b", "!", "!!a", "!!in(a)", "in(a, !b)", "a" * 64, "not(a)"],
)
def test_values_that_are_none(value: str) -> None:
    with pytest.raises(
        ValueError, match=r"Invalid label selector value .*option 'label_selector'\['zone'\]: it is written"
    ):
        selector({"zone": value}, "option 'label_selector'")


@pytest.mark.parametrize("key", ["", "-a", "a/b/c/", "/a", "a@b", "k" * 64])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(ValueError, match="has the key"):
        selector({key: "a"}, "it")


@pytest.mark.parametrize("wrong", [["zone"], "zone=a", {1: "a"}, {"zone": 1}, {"zone": None}])
def test_types_that_are_none(wrong: Any) -> None:
    with pytest.raises(TypeError, match="^it"):
        selector(wrong, "it")


def test_labels_of_a_node_are_checked() -> None:
    assert check_labels(NODE, "labels") == NODE
    with pytest.raises(ValueError, match=r"labels has the key 'ray.io/zone'.*only the runtime sets"):
        check_labels({"ray.io/zone": "a"}, "labels")
    with pytest.raises(ValueError, match=r"labels\['zone'\] is 'a b'"):
        check_labels({"zone": "a b"}, "labels")
    with pytest.raises(TypeError, match=r"labels\['zone'\] takes a string, got 3"):
        check_labels({"zone": 3}, "labels")
    with pytest.raises(TypeError, match="labels takes a dict"):
        check_labels(["zone"], "labels")


def test_labels_on_a_command_line() -> None:
    assert parse_labels(" zone=a, disk=fast,", "--labels") == {"zone": "a", "disk": "fast"}
    assert parse_labels("", "--labels") == {}
    with pytest.raises(ValueError, match="--labels takes KEY=VALUE,KEY=VALUE, got 'zone'"):
        parse_labels("zone", "--labels")


VALUES = st.sampled_from(["a", "b", "c"])


@given(st.dictionaries(st.sampled_from("xyz"), VALUES), st.sampled_from("xyz"), st.lists(VALUES, min_size=1))
def test_not_is_the_opposite(node: dict[str, str], key: str, values: list[str]) -> None:
    text = f"in({', '.join(values)})"
    assert matches(selector({key: text}, "it"), node) != matches(selector({key: "!" + text}, "it"), node)


def test_conditions_in_words() -> None:
    conditions = [
        Condition("a", "in", ["1"]), Condition("b", "!in", ["1"]), Condition("c", "in", ["1", "2"]),
        Condition("d", "!in", ["1", "2"]), Condition("e", "exists", []), Condition("f", "!exists", []),
    ]  # fmt: skip
    assert describe(conditions) == (
        "a = '1', b other than '1', c in (1, 2), d not in (1, 2), the label e, no label f"
    )
    assert labels.NODE_ID.startswith(labels.RESERVED)
