"""What is found in a picture. Plain values: they are compared, pickled and written to Parquet."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of text, as the model sees it."""

    text: str
    confidence: float
    #: Four corners in pixels of the picture: top left, top right, bottom right, bottom left of the *text*,
    #: which may be rotated.
    box: tuple[Point, ...]


@dataclass(frozen=True)
class Reading:
    """The outcome for one picture. With an `error` there are no lines; without one there may be none too."""

    path: str
    width: int = 0
    height: int = 0
    lines: tuple[Line, ...] = ()
    error: str | None = None

    @property
    def text(self) -> str:
        """All lines, from top to bottom."""
        return "\n".join(line.text for line in self.lines)
