"""Find pictures by what is written in them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from demo.readings import Line, Reading


def find_text(readings: Iterable[Reading], words: str) -> list[tuple[Reading, list[Line]]]:
    """Return the pictures that have `words` in a line, whatever the case, each with those lines."""
    wanted = words.casefold()
    hits = [
        (reading, [line for line in reading.lines if wanted in line.text.casefold()]) for reading in readings
    ]
    return [(reading, lines) for reading, lines in hits if lines]


def print_hits(hits: list[tuple[Reading, list[Line]]], words: str, console: Console) -> None:
    """Print each picture's path and, below it, the confidence and text of the lines found."""
    for reading, lines in hits:
        console.print(Text(reading.path, style="bold"), soft_wrap=True)
        for line in lines:
            text = Text(f"  {line.confidence:4.0%}  ", style="dim")
            text.append_text(_marked(line.text, words))
            console.print(text, soft_wrap=True)
    count = sum(len(lines) for _, lines in hits)
    console.print(f"{_plural(count, 'line')} in {_plural(len(hits), 'picture')}", style="dim")


def _marked(text: str, words: str) -> Text:
    marked = Text(text, style="default")
    marked.highlight_words([words], style="bold green", case_sensitive=False)
    return marked


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
