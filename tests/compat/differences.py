"""The tables of differences in the documents: made of the suites' markers, which alone say them.

The page of data has a second one, of the names that are left out.

python tests/compat/differences.py            # prints the tables
python tests/compat/differences.py --write    # puts them into their pages
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
DOCUMENTS = HERE.parents[1] / "docs"
#: The page of each suite.
PAGES = {
    "conformance": DOCUMENTS / "compatibility.md",
    "data": DOCUMENTS / "data-differences.md",
    "serve": DOCUMENTS / "serve.md",
}
BEGIN = "<!-- differences: made by tests/compat/differences.py -->"
LEFT_OUT = "<!-- differences: names that are left out; made by tests/compat/differences.py -->"
ENGINE = "<!-- differences of the engine on Ray: made by tests/compat/differences.py -->"
END = "<!-- end of differences -->"


class Difference(NamedTuple):
    """A test that one of them does not pass, and why."""

    file: str
    test: str
    on: str
    reason: str
    before: str


def differences(suite: str) -> Iterator[Difference]:
    """Read the markers of a suite off the source, without running it."""
    for file in sorted((HERE / suite).glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "differs":
                    given = {one.arg: ast.literal_eval(one.value) for one in decorator.keywords}
                    yield Difference(
                        file.stem.removeprefix("test_"),
                        node.name,
                        given["on"],
                        given["reason"],
                        given.get("before", ""),
                    )


def table(suite: str) -> str:
    """Return the table as the page of the suite has it."""
    lines = ["| area | what is expected | not on | what happens there |", "|---|---|---|---|"]
    for one in differences(suite):
        if one.on == "engine":
            continue  # of skate's engine on Ray: its own page has them
        expected = one.test.removeprefix("test_").replace("_", " ")
        reason = re.sub(r"\b__\w+__\b", r"`\g<0>`", one.reason)
        system = f"{one.on} before {one.before}" if one.before else one.on
        lines.append(f"| {one.file.replace('_', ' ')} | {expected} | {system} | {reason} |")
    return "\n".join(lines)


def on_ray() -> str:
    """Return the table of what neither Ray nor skate does, but skate's engine on Ray."""
    lines = ["| area | what is expected | what happens on a Ray cluster |", "|---|---|---|"]
    for one in differences("conformance"):
        if one.on == "engine":
            expected = one.test.removeprefix("test_").replace("_", " ")
            lines.append(f"| {one.file.replace('_', ' ')} | {expected} | {one.reason} |")
    return "\n".join(lines)


def left_out() -> str:
    """Return the table of the names of Ray Data's that are left out, one line for each reason."""
    from skate.data import _left_out

    names: dict[str, list[str]] = {}
    for name in _left_out.names():
        names.setdefault(str(_left_out.reason(name)), []).append(f"`{name}`")
    lines = ["| names | reason, and what to do instead |", "|---|---|"]
    lines += [f"| {', '.join(these)} | {reason} |" for reason, these in names.items()]
    return "\n".join(lines)


#: Each table: its page, the line before it, and what makes it.
TABLES: dict[str, tuple[Path, str, Callable[[], str]]] = {
    **{suite: (page, BEGIN, partial(table, suite)) for suite, page in PAGES.items()},
    "engine on Ray": (DOCUMENTS / "engines.md", ENGINE, on_ray),
    "left out": (PAGES["data"], LEFT_OUT, left_out),
}


def written(which: str) -> str:
    """Return what the page has between the two lines that hold a table."""
    page, begin, _ = TABLES[which]
    return page.read_text().split(begin)[1].split(END)[0].strip()


def write(which: str) -> None:
    """Put a table into its page."""
    page, begin, make = TABLES[which]
    before, rest = page.read_text().split(begin)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{begin}\n{make()}\n{END}{after}")


if __name__ == "__main__":
    for each in TABLES:
        if "--write" in sys.argv[1:]:
            write(each)
        else:
            print(TABLES[each][2]())
