"""Checks labels of nodes and matches selectors with them. Decisions only.

A label is a pair of strings that a node has for life: ``{"zone": "a", "ray.io/node-id": "4f..."}``. A
selector asks for values: ``"a"``, ``"!a"`` (another one, or none), ``"in(a, b)"``, ``"!in(a, b)"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skate._wire.specs import Condition

if TYPE_CHECKING:
    import re

#: The prefix of labels that the runtime itself sets, under Ray's names.
RESERVED = "ray.io/"
NODE_ID = "ray.io/node-id"
ACCELERATOR_TYPE = "ray.io/accelerator-type"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,61}[A-Za-z0-9])?"
_PREFIX = rf"{_NAME}(?:\.{_NAME})*"
_LIST = r"(!?)in\((.*)\)"

_RULE = "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"


def _match(pattern: str, text: str) -> re.Match[str] | None:
    import re  # most programs have no labels, and need not pay for the import

    return re.fullmatch(pattern, text)


def check_key(key: Any, what: str) -> None:
    """Raise unless a value can be the key of a label: a name, perhaps behind ``some.domain/``.

    Raises:
        TypeError, ValueError: it cannot; the message begins with ``what``.
    """
    if not isinstance(key, str):
        raise TypeError(f"{what} has the key {key!r}; keys of labels are strings")
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _match(_PREFIX, prefix)):
        raise ValueError(f"{what} has the key {key!r}: the part before '/' must look like a domain name")
    if not _match(_NAME, name):
        raise ValueError(f"{what} has the key {key!r}: a key is {_RULE}")


def check_value(key: str, value: Any, what: str) -> None:
    """Raise unless a value can be the value of a label.

    Raises:
        TypeError, ValueError: it cannot; the message begins with ``what``.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what}[{key!r}] takes a string, got {value!r} ({type(value).__name__})")
    if value and not _match(_NAME, value):
        raise ValueError(f"{what}[{key!r}] is {value!r}: a value is {_RULE}")


def check_labels(labels: Any, what: str) -> dict[str, str]:
    """Return the labels that a user gives a node.

    Raises:
        TypeError, ValueError: the labels are not valid; the message begins with ``what``.
    """
    if not isinstance(labels, Mapping):
        raise TypeError(f"{what} takes a dict of strings like {{'zone': 'a'}}, got {labels!r}")
    for key, value in labels.items():
        check_key(key, what)
        check_value(key, value, what)
        if key.startswith(RESERVED):
            raise ValueError(
                f"{what} has the key {key!r}: only the runtime sets keys that begin with {RESERVED!r}"
            )
    return dict(labels)


def parse_labels(text: str, what: str) -> dict[str, str]:
    """Return the labels of a command line: ``zone=a,disk=fast``.

    Raises:
        ValueError: the text has another form.
    """
    found = {}
    for pair in filter(None, (one.strip() for one in text.split(","))):
        key, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"{what} takes KEY=VALUE,KEY=VALUE, got {pair!r}")
        found[key.strip()] = value.strip()
    return check_labels(found, what)


def selector(given: Any, what: str) -> list[Condition]:
    """Return the conditions of a ``label_selector``.

    Raises:
        TypeError, ValueError: it is no selector; the message begins with ``what``.
    """
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{what} must be a dict like {{'zone': 'in(a, b)'}}, but received type {type(given)}: {given!r}"
        )
    conditions = []
    for key, value in given.items():
        check_key(key, what)
        if not isinstance(value, str):
            raise TypeError(f"{what}[{key!r}] takes a string, got {value!r} ({type(value).__name__})")
        listed = _match(_LIST, value)
        if listed is not None:
            no, values = listed[1], [one.strip() for one in listed[2].split(",")]
        else:
            no, values = ("!", [value[1:]]) if value.startswith("!") else ("", [value])
        for one in values:
            if (not one and (listed is not None or no)) or (one and not _match(_NAME, one)):
                raise ValueError(
                    f"Invalid label selector value `{value}` in {what}[{key!r}]: it is written 'a', '!a', "
                    f"'in(a, b)' or '!in(a, b)', and a value is {_RULE}"
                )
        conditions.append(Condition(key, f"{no}in", values))
    return conditions


def matches(conditions: Sequence[Condition], labels: Mapping[str, str]) -> bool:
    """Tell whether labels fulfil all conditions."""
    return all(_holds(one, labels) for one in conditions)


def _holds(condition: Condition, labels: Mapping[str, str]) -> bool:
    found = labels.get(condition.key)
    if condition.operator == "in":
        return found in condition.values
    if condition.operator == "!in":
        return found not in condition.values
    return (found is not None) == (condition.operator == "exists")


def describe(conditions: Sequence[Condition]) -> str:
    """Return ``zone in (a, b), no gpu`` for messages to people."""
    return ", ".join(map(_words, conditions)) or "no label"


def written(conditions: Sequence[Condition]) -> dict[str, str]:
    """Return conditions as a ``label_selector``; conditions that it cannot express read "exists" or
    "!exists"."""
    return {
        one.key: f"{one.operator}({', '.join(one.values)})" if one.values else one.operator
        for one in conditions
    }


def _words(condition: Condition) -> str:
    if condition.operator == "exists":
        return f"the label {condition.key}"
    if condition.operator == "!exists":
        return f"no label {condition.key}"
    no = condition.operator.startswith("!")
    if len(condition.values) == 1:
        return f"{condition.key} {'other than' if no else '='} {condition.values[0]!r}"
    return f"{condition.key} {'not ' if no else ''}in ({', '.join(condition.values)})"
