"""Applications that cannot run beside each other. Decisions only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skate.serve._targets import ApplicationTarget
from skate.serve.exceptions import RayServeException


def check(
    targets: Sequence[ApplicationTarget],
    others: Mapping[str, ApplicationTarget],
    present: Mapping[str, ApplicationTarget],
) -> None:
    """Raise if applications cannot be brought about.

    Args:
        targets: what they are to be.
        others: the applications that stay beside them.
        present: of those that are to have a canary: what they are now.

    Raises:
        RayServeException: a route prefix is that of another application, or a canary has another entrance.
    """
    for target in targets:
        for name, other in others.items():
            if target.route_prefix is not None and other.route_prefix == target.route_prefix:
                raise RayServeException(
                    f"Prefix {target.route_prefix} is being used by application {name!r}. Failed to deploy "
                    f"application {target.name!r}."
                )
        now = present.get(target.name)
        if now is not None and now.ingress != target.ingress:
            raise RayServeException(
                f"A canary has the same entrance as the present version: {now.ingress!r}, not "
                f"{target.ingress!r}"
            )
