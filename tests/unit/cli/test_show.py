"""Tables for people: as wide as they like in a pipe, and as wide as the terminal in one."""

from __future__ import annotations

from skate.cli.show import table

HEADER = ["task", "name", "state", "took", "called at"]
ROWS = [
    [
        "adf288554239de62000000000042",
        "transform_a_large_batch",
        "RUNNING",
        12,
        "/home/me/project/busy.py:29 in main",
    ],
    ["adf288554239de62000000000043", "quick", "PENDING_NODE_ASSIGNMENT", None, None],
]


def lines(terminal: int | None = None) -> list[str]:
    return table(HEADER, ROWS, terminal).splitlines()


def test_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    assert table(["name", "n"], [["a b", 5], ["c\nd", 100]], 80).splitlines() == [
        "name    n",
        "a b     5",
        "c d   100",
    ]


def test_nothing_is_cut_without_a_terminal_or_with_a_wide_one() -> None:
    assert lines(terminal=1000) == lines()
    assert "/home/me/project/busy.py:29 in main" in lines()[1]


def test_what_is_too_wide_is_cut_but_ids_and_numbers_are_not() -> None:
    shown = lines(terminal=90)
    assert max(map(len, shown)) <= 90
    assert shown[1].startswith("adf288554239de62000000000042  transform_a_la")
    assert "\u2026" in shown[1]
    assert "busy.py:29" in shown[1]
    assert "/home" not in shown[1]
    assert "PENDING_NODE_A" in shown[2]


def test_the_last_columns_are_left_out_if_that_is_not_enough() -> None:
    shown = lines(terminal=60)
    assert max(map(len, shown[:-1])) <= 60
    assert shown[0].split() == ["task", "name", "state", "took"]
    assert shown[-1] == "(left out, for the terminal is narrow: called at)"


def test_long_titles_are_broken_at_their_underscores() -> None:
    shown = table(["task", "PENDING_NODE_ASSIGNMENT", "RUNNING"], [["resize", 5, 12]], 32).splitlines()
    assert shown == [
        "task      PENDING_  RUNNING",
        "             NODE_",
        "        ASSIGNMENT",
        "resize           5       12",
    ]


def test_a_terminal_too_narrow_for_anything() -> None:
    assert lines(terminal=1)[1] == "adf288554239de62000000000042"


def test_no_rows() -> None:

    assert table(["a", "b"], []) == "a  b"
