"""Sentences about requests, and trace headers: pure functions."""

from __future__ import annotations

import pytest

from skate.serve._observing import tracing
from skate.serve._observing.why import Ended, Fact, Queued, Running, Sent, sentences


def said(
    *facts: tuple[str, Fact], ongoing: dict[str, int] | None = None, missing: tuple[str, ...] = ()
) -> list[str]:
    return sentences("abc", facts, ongoing or {}, missing, 100.0)


SLOTS = (("r1", 5), ("r2", 5))


@pytest.mark.parametrize(
    ("fact", "ongoing", "words"),
    [
        (
            Queued("r0", "M", "a", 3, 1.25, SLOTS), {"r1": 5, "r2": 5},
            "waits in r0 for 1.2 s, behind 3 others, for M (application a), whose replicas are all busy: r1 runs 5 of "
            "5, r2 runs 5 of 5.",
        ),
        (
            Queued("r0", "M", "a", 1, 0.2, SLOTS), {"r1": 4},
            "waits in r0 for 200 ms, behind 1 other, for M (application a), whose replicas are: r1 runs 4 of 5, r2 "
            "does not answer.",
        ),
        (
            Queued("r0", "M", "a", 0, 2.0), {},
            "waits in r0 for 2.0 s, first in line, for M (application a), which has no running replica yet.",
        ),
        (
            Queued("r0", "M", "a", 0, 2.0, (), "it failed to deploy"), {},
            "waits in r0 for 2.0 s, first in line, for M (application a), which has no replicas: it failed to deploy.",
        ),
        (
            Running("r1", "M", "a", "run", 3.0, "app.py:12 in run"), {},
            "runs in replica r1 of M (application a) for 3.0 s, at app.py:12 in run.",
        ),
        (
            Sent("r0", "M", "a", "r1", 0.5), {},
            "was sent by r0 to replica r1 of M (application a); the process has had it for 500 ms.",
        ),
        (
            Ended("abc", "M", "a", "GET", "/x", 200, 12.34, 98.0), {},
            "ended in p with status 200 after 12.3 ms, 2.0 s ago (GET /x, M (application a)).",
        ),
        (
            Ended("abc", "M", "a", "CALL", "run", "ERROR KeyError", 1.0, 99.5), {},
            "ended in p with status ERROR KeyError after 1.0 ms, 500 ms ago (call of run, M (application a)).",
        ),
    ],
)  # fmt: skip
def test_each_fact_is_a_sentence(fact: Fact, ongoing: dict[str, int], words: str) -> None:
    assert said(("p", fact), ongoing=ongoing) == [f"Request abc {words}"]


def test_what_waits_comes_first_and_the_past_last() -> None:
    facts = [
        ("r1", Ended("abc", "M", "a", "CALL", "late", "OK", 1.0, 99.0)),
        ("r1", Ended("abc", "M", "a", "CALL", "early", "OK", 1.0, 98.0)),
        ("r0", Sent("r0", "M", "a", "r1", 0.5)),
        ("r1", Running("r1", "M", "a", "run", 3.0, "")),
        ("r2", Queued("r2", "N", "a", 0, 1.0)),
    ]
    lines = said(*facts, missing=("r9",))
    assert [line.split()[2] for line in lines[:4]] == ["waits", "runs", "ended", "ended"]
    assert "early" in lines[2]
    assert lines[4] == "No answer in time from r9, which may have it."


def test_nothing_is_known() -> None:
    (line,) = said()
    assert line.startswith("Request abc is not known: it has not come, has ended too long ago")


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"cc-{TRACE}-{SPAN}-01-more", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f"00-{TRACE}-{SPAN}-01\r\nx: y", False),
        ("", False),
    ],
)
def test_only_valid_trace_headers_count(value: str, is_valid: bool) -> None:
    assert tracing.parse(value) == (value if is_valid else "")
    assert tracing.parse(f" {value}\t") == (value if is_valid else "")
