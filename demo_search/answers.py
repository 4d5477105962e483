"""What a person gets: answers in the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from demo.debian import cache
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from demo_search.index import Answer


def print_answers(answers: Sequence[Answer], question: str, console: Console) -> None:
    """Print each answer's file, page and title and, below them, its text with the question's words marked."""
    words = [word for word in re.findall(r"\w+", question) if len(word) > 3]
    for number, answer in enumerate(answers, start=1):
        line = Text(f"{number}. ", style="dim")
        line.append(_short(answer.path), style="bold")
        if answer.page is not None:
            line.append(f", page {answer.page}")
        if answer.title:
            line.append(f", {answer.title}", style="italic")
        line.append(f"  {answer.score:.2f}", style="dim")
        console.print(line, soft_wrap=True)
        text = Text(answer.text)
        text.highlight_words(words, style="bold green", case_sensitive=False)
        console.print(Padding(text, (0, 0, 1, 3)))


def _short(path: str) -> str:
    """The path without the folder of what was fetched, or as a person would type it from here."""
    for base, prefix in ((cache(), ""), (Path.cwd(), ""), (Path.home(), "~/")):
        if Path(path).is_relative_to(base.resolve()):
            return prefix + str(Path(path).relative_to(base.resolve()))
    return path
