"""The table of differences in the documents: made of the suite's markers, which alone say them.

python tests/compat/differences.py            # prints the table
python tests/compat/differences.py --write    # puts it into docs/compatibility.md
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SUITE = Path(__file__).resolve().parent / "conformance"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
BEGIN = "<!-- differences: made by tests/compat/differences.py -->"
END = "<!-- end of differences -->"


class Difference(NamedTuple):
    """A test that one of the two does not pass, and why."""

    file: str
    test: str
    on: str
    reason: str


def differences() -> Iterator[Difference]:
    """Read the markers off the source, without running it."""
    for file in sorted(SUITE.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "differs":
                    given = {one.arg: ast.literal_eval(one.value) for one in decorator.keywords}
                    yield Difference(file.stem.removeprefix("test_"), node.name, given["on"], given["reason"])


def table() -> str:
    """Return the table as the page has it."""
    lines = ["| area | what is expected | not on | what happens there |", "|---|---|---|---|"]
    for one in differences():
        expected = one.test.removeprefix("test_").replace("_", " ")
        reason = re.sub(r"\b__\w+__\b", r"`\g<0>`", one.reason)
        lines.append(f"| {one.file.replace('_', ' ')} | {expected} | {one.on} | {reason} |")
    return "\n".join(lines)


def written() -> str:
    """Return what the page has between the two lines that hold the table."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0].strip()


def write() -> None:
    """Put the table into the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write()
    else:
        print(table())
