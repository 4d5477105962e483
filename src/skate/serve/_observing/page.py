"""Formats merged series as text for Prometheus. Decisions only."""

from __future__ import annotations

from collections.abc import Sequence

from skate.serve._observing.families import FAMILIES, Family
from skate.serve._observing.metrics import Labels, Snapshot, Value

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def text(series: Snapshot, missing: Sequence[str] = ()) -> str:
    """Return a page.

    Args:
        series: of all processes together.
        missing: processes that did not answer: a comment names them.

    Example:
        >>> print(text({("ray_serve_num_router_requests", ("Model", "default")): 2}), end="")
        # HELP ray_serve_num_router_requests_total Requests that needed a replica's credit.
        # TYPE ray_serve_num_router_requests_total counter
        ray_serve_num_router_requests_total{deployment="Model",application="default"} 2
    """
    by_family: dict[str, list[tuple[Labels, Value]]] = {}
    for (name, labels), value in series.items():
        by_family.setdefault(name, []).append((labels, value))
    lines = [f"# No answer in time, so the latest known values count: {one}" for one in missing]
    for name, family in FAMILIES.items():
        if name not in by_family:
            continue
        full = name + "_total" if family.kind == "counter" else name
        lines += [f"# HELP {full} {family.help}", f"# TYPE {full} {family.kind}"]
        for labels, value in sorted(by_family[name], key=lambda one: one[0]):
            lines += _lines(full, family, labels, value)
    return "".join(f"{line}\n" for line in lines)


def _lines(name: str, family: Family, labels: Labels, value: Value) -> list[str]:
    pairs = [f'{key}="{_escaped(one)}"' for key, one in zip(family.labels, labels, strict=True)]
    if not isinstance(value, tuple):
        return [f"{name}{_braces(pairs)} {_number(value)}"]
    lines, so_far = [], 0.0
    for end, count in zip((*family.bounds, float("inf")), value[1:], strict=True):
        so_far += count
        bound = f'le="{_number(end)}"'
        lines.append(f"{name}_bucket{_braces([*pairs, bound])} {_number(so_far)}")
    return [
        *lines,
        f"{name}_sum{_braces(pairs)} {_number(value[0])}",
        f"{name}_count{_braces(pairs)} {_number(so_far)}",
    ]


def _braces(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
