"""Rows that failed, as a resumable write keeps them: in the record that says that their part is written.

So they are recorded together with its rows or not at all; a part that is read again brings its own again.
"""

from __future__ import annotations

import base64
import pickle
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skate.data._task.operators import Letter
from skate.data.exceptions import RecordedError, describe, packed_value, type_name, unpacked_value


@dataclass
class Failures:
    """Rows that failed, and what limits of errors are computed from.

    Attributes:
        letters: rows that are kept.
        skipped: number of rows that were left out, by stage.
        counts: counters of the tasks, by name: the rows that stages have seen.
    """

    letters: list[Letter] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, letters: Iterable[Letter], counts: Mapping[str, int]) -> None:
        """Add what a task reported."""
        for letter in letters:
            if letter.is_kept:
                self.letters.append(letter)
            else:
                self.skipped[letter.stage] += 1
        self.counts.update(counts)

    def add(self, other: Failures) -> None:
        """Add those of other parts."""
        self.letters += other.letters
        self.skipped.update(other.skipped)
        self.counts.update(other.counts)

    def __bool__(self) -> bool:
        return bool(self.letters or self.skipped or self.counts)

    def as_data(self) -> dict[str, Any]:
        """Return them as plain data, for JSON."""
        return {
            "letters": [_letter_as_data(letter) for letter in self.letters],
            "skipped": dict(self.skipped),
            "counts": dict(self.counts),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Failures:
        """Return what ``as_data`` was made of; of an error its texts are left."""
        return cls(
            [_letter_from_data(one) for one in data["letters"]],
            Counter(data["skipped"]),
            Counter(data["counts"]),
        )


def _letter_as_data(letter: Letter) -> dict[str, Any]:
    row = None
    if letter.row is not None:
        # Cell by cell: one that cannot be pickled becomes its text, and costs the others nothing.
        cells = {name: packed_value(value) for name, value in letter.row.items()}
        row = base64.b64encode(pickle.dumps(cells)).decode()
    return {
        "row": row,
        "error_type": type_name(letter.error),
        "error": describe(letter.error),
        "traceback": letter.traceback_text,
        "stage": letter.stage,
        "path": letter.path,
        "row_id": letter.row_id,
        "attempts": letter.attempts,
        "operation": letter.operation,
    }


def _letter_from_data(data: Mapping[str, Any]) -> Letter:
    row = None
    if data["row"] is not None:
        cells = pickle.loads(base64.b64decode(data["row"]))
        row = {name: unpacked_value(packed) for name, packed in cells.items()}
    return Letter(
        row,
        RecordedError(data["error_type"], data["error"]),
        data["traceback"],
        data["stage"],
        data["path"],
        data["row_id"],
        data["attempts"],
        operation=data["operation"],
    )
