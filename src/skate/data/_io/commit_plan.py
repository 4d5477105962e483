"""Compares the plans of two runs, and frames the records of a manifest; no I/O."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

#: Names that a difference shows of many.
SHOWN = 5


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Say in sentences how two pieces of plain data differ; empty: not at all.

    Lists of records that begin with a name (a path with its size and time) are compared by these names.

    Example:
        >>> differences({"source": [["a", 1]]}, {"source": [["a", 1], ["b", 2]]})
        ['source: 1 added: b']
    """
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            where = f"{name}.{key}" if name else str(key)
            if key not in new:
                found.append(f"{where}: was {_short(old[key])}, is not given now")
            elif key not in old:
                found.append(f"{where}: was not given, is {_short(new[key])}")
            else:
                found += differences(old[key], new[key], where)
        return found
    if isinstance(old, list) and isinstance(new, list):
        before, after = _by_name(old), _by_name(new)
        if before is not None and after is not None:
            return _records(before, after, name)
        if len(old) == len(new):
            changed = [pair for pair in enumerate(zip(old, new, strict=True)) if pair[1][0] != pair[1][1]]
            found = [line for at, pair in changed[:SHOWN] for line in differences(*pair, f"{name}[{at}]")]
            return found + ([f"{name}: and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else [])
    return [f"{name}: was {_short(old)}, is {_short(new)}"]


def _by_name(records: Sequence[Any]) -> dict[str, Any] | None:
    """Return records by name, if every one has one of its own."""
    found: dict[str, Any] = {}
    for record in records:
        name = record[0] if isinstance(record, list) and record else record
        if not isinstance(name, str) or name in found:
            return None
        found[name] = record
    return found


def _records(old: dict[str, Any], new: dict[str, Any], name: str) -> list[str]:
    kinds = {
        "added": [one for one in new if one not in old],
        "removed": [one for one in old if one not in new],
        "changed": [one for one in new if one in old and new[one] != old[one]],
    }
    found = []
    for kind, names in kinds.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            found.append(f"{name}: {len(names)} {kind}: {', '.join(names[:SHOWN])}{more}")
    return found or [f"{name}: the same entries in another order"]


def _short(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 120 else text[:117] + "..."


def frame(record: Any) -> bytes:
    """Return a record as a line of a manifest: length and check sum before it."""
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %08x " % (len(body), zlib.crc32(body)) + body + b"\n"


def records(data: bytes) -> Iterator[Any]:
    """Yield the records of a manifest, up to the first line that is not whole: its writer ended there."""
    position = 0
    while position + 18 <= len(data):
        try:
            size, check = int(data[position : position + 8], 16), int(data[position + 9 : position + 17], 16)
        except ValueError:
            return
        body = data[position + 18 : position + 18 + size]
        if len(body) < size or zlib.crc32(body) != check:
            return
        yield json.loads(body)
        position += 18 + size + 1
