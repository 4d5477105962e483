"""Formats metrics as text for Prometheus. Decisions only: plain rows in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: The prefix of all names, as in Ray, so that dashboards for Ray find the metrics.
PREFIX = "ray_"


def text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the metrics of all processes as one page.

    Counters and histograms are added up over processes; gauges have a line for each process, with its id as
    the tag ``WorkerId``.
    """
    families: dict[str, dict[str, Any]] = {}
    for row in rows:
        family = families.setdefault(
            row["name"], {"kind": row["kind"], "description": row["description"], "values": {}}
        )
        if family["kind"] != row["kind"]:
            continue  # two processes do not agree: the first one keeps the name
        tags = dict(row["tags"])
        if row["kind"] == "gauge":
            tags["WorkerId"] = row["worker_id"]
        key = tuple(sorted(tags.items()))
        _add(family["values"], key, row)
    lines: list[str] = []
    for name, family in sorted(families.items()):
        full = PREFIX + name + ("_total" if family["kind"] == "counter" else "")
        if family["description"]:
            escaped = family["description"].replace("\\", r"\\").replace("\n", r"\n")
            lines.append(f"# HELP {full} {escaped}")
        lines.append(f"# TYPE {full} {family['kind']}")
        for key, value in sorted(family["values"].items()):
            lines += _lines(full, dict(key), value)
    return "".join(line + "\n" for line in lines)


def _add(values: dict[Any, Any], key: Any, row: Mapping[str, Any]) -> None:
    if row["kind"] == "histogram":
        old = values.get(key)
        if old is None or old["boundaries"] != row["boundaries"]:
            values.setdefault(key, {name: row[name] for name in ("boundaries", "counts", "sum")})
        else:
            counts = [mine + more for mine, more in zip(old["counts"], row["counts"], strict=True)]
            values[key] = {**old, "counts": counts, "sum": old["sum"] + row["sum"]}
    elif row["kind"] == "counter":
        values[key] = values.get(key, 0.0) + row["value"]
    else:
        values[key] = row["value"]


def _lines(name: str, tags: dict[str, str], value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [f"{name}{_labels(tags)} {_number(value)}"]
    lines, so_far = [], 0
    for end, count in zip([*value["boundaries"], float("inf")], value["counts"], strict=True):
        so_far += count
        lines.append(f"{name}_bucket{_labels({**tags, 'le': _number(end)})} {so_far}")
    return [
        *lines,
        f"{name}_sum{_labels(tags)} {_number(value['sum'])}",
        f"{name}_count{_labels(tags)} {so_far}",
    ]


def _labels(tags: Mapping[str, str]) -> str:
    if not tags:
        return ""
    pairs = (f'{key}="{_escaped(value)}"' for key, value in tags.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(float(value)) if value != int(value) else str(int(value))
