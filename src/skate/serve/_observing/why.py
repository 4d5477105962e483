"""Says in words where a request is or was. Decisions only: facts in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Queued:
    """A request waits in a process for a replica.

    Args:
        process: where.
        deployment, application: for which deployment.
        ahead: how many wait before it.
        seconds: how long it has been waiting.
        slots: the deployment's replicas and how many requests each runs at a time.
        unavailable: why there is none; "" if there may be some.
    """

    process: str
    deployment: str
    application: str
    ahead: int
    seconds: float
    slots: tuple[tuple[str, int], ...] = ()
    unavailable: str = ""


@dataclass(frozen=True)
class Sent:
    """A process has sent a request to a replica, and has no answer yet.

    Args:
        process: which has sent it.
        deployment, application: to which deployment.
        replica: where it is.
        seconds: since the process has it.
    """

    process: str
    deployment: str
    application: str
    replica: str
    seconds: float


@dataclass(frozen=True)
class Running:
    """A request runs in a replica.

    Args:
        process: the replica.
        deployment, application: of the replica.
        method: that runs.
        seconds: how long it has been running.
        place: the line of code, as "file.py:12 in function"; "": not known.
    """

    process: str
    deployment: str
    application: str
    method: str
    seconds: float
    place: str


@dataclass(frozen=True)
class Ended:
    """A request has ended.

    Args:
        request_id: its id.
        deployment, application: which it was for.
        method: of HTTP; "CALL": it came by a handle.
        path: of HTTP, or the method that was called.
        status: of HTTP, or "OK", "CANCELLED", "ERROR" with the type of the exception.
        milliseconds: from its beginning to its end.
        at: when it ended (the machine's monotonic clock, seconds).
    """

    request_id: str
    deployment: str
    application: str
    method: str
    path: str
    status: int | str
    milliseconds: float
    at: float


Fact = Queued | Sent | Running | Ended


def sentences(
    request_id: str,
    facts: Sequence[tuple[str, Fact]],
    ongoing: Mapping[str, int],
    missing: Sequence[str],
    now: float,
) -> list[str]:
    """Return what is known of a request, a sentence a line: what it waits for first, its past last.

    Args:
        request_id: its id.
        facts: with the processes that know them.
        ongoing: how many requests each replica runs now.
        missing: processes that did not answer.
        now: on the machine's monotonic clock (seconds).

    Example:
        >>> fact = Running("r1", "Model", "default", "__call__", 2.5, "app.py:12 in __call__")
        >>> sentences("abc", [("r1", fact)], {}, [], 0.0)
        ['Request abc runs in replica r1 of Model (application default) for 2.5 s, at app.py:12 in __call__.']
    """
    lines = []
    arrived = {one.process for _, one in facts if isinstance(one, Running)}
    for _, one in facts:
        if isinstance(one, Queued):
            lines.append(_queued(one, ongoing))
    for _, one in facts:
        if isinstance(one, Running):
            place = f", at {one.place}" if one.place else ""
            lines.append(f"runs in replica {one.process} of {_name(one)} for {_time(one.seconds)}{place}.")
    for _, one in facts:
        if isinstance(one, Sent) and one.replica not in arrived:
            lines.append(
                f"was sent by {one.process} to replica {one.replica} of {_name(one)}; the process has had it "
                f"for {_time(one.seconds)}."
            )
    past = [(process, one) for process, one in facts if isinstance(one, Ended)]
    for process, one in sorted(past, key=lambda found: found[1].at):
        way = f"call of {one.path}" if one.method == "CALL" else f"{one.method} {one.path}"
        lines.append(
            f"ended in {process} with status {one.status} after {one.milliseconds:.1f} ms, "
            f"{_time(max(0.0, now - one.at))} ago ({way}, {_name(one)})."
        )
    found = [f"Request {request_id} {line}" for line in lines]
    if not found:
        found = [
            f"Request {request_id} is not known: it has not come, has ended too long ago, or waits in a "
            "process that is no replica (call serve.why there)."
        ]
    return found + [f"No answer in time from {one}, which may have it." for one in missing]


def _queued(one: Queued, ongoing: Mapping[str, int]) -> str:
    line = "first in line" if not one.ahead else f"behind {one.ahead} other{'s' * (one.ahead > 1)}"
    start = f"waits in {one.process} for {_time(one.seconds)}, {line}, for {_name(one)}"
    if one.unavailable:
        return f"{start}, which has no replicas: {one.unavailable}."
    if not one.slots:
        return f"{start}, which has no running replica yet."
    shown = ", ".join(
        f"{name} runs {ongoing[name]} of {slots}" if name in ongoing else f"{name} does not answer"
        for name, slots in one.slots
    )
    is_busy = all(ongoing.get(name, slots) >= slots for name, slots in one.slots)
    return f"{start}, {'whose replicas are all busy' if is_busy else 'whose replicas are'}: {shown}."


def _name(one: Fact) -> str:
    return f"{one.deployment} (application {one.application})"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
