"""The options of request routers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from skate.serve._checks import ValidationError, check_number

#: The request router of deployments that name none: the router's own order, see docs/serve.md.
_DEFAULT_ROUTER = "skate.serve.request_router:PowerOfTwoChoicesRequestRouter"


@dataclass(frozen=True)
class RequestRouterConfig:
    """Which replica gets a request: a class of the user's that chooses.

    Args:
        request_router_class: a subclass of ``skate.serve.request_router.RequestRouter``, or "module:name" of
            one.
        request_router_kwargs: arguments of its method ``initialize_state``. JSON only.
        request_routing_stats_period_s: how often a replica's method ``record_routing_stats`` is called
            (seconds).
        request_routing_stats_timeout_s: how long that may take (seconds).
        initial_backoff_s, backoff_multiplier, max_backoff_s: a request that none of its replicas can take is
            chosen for again after this time (seconds), which grows by this factor, up to this bound.

    Raises:
        ValueError: a value is out of its range.

    Example:
        >>> RequestRouterConfig(request_router_class="app.routing:MyRouter", request_router_kwargs={"k": 2})
    """

    request_router_class: str | Callable[..., Any] = _DEFAULT_ROUTER
    request_router_kwargs: dict[str, Any] = field(default_factory=dict)
    request_routing_stats_period_s: float = 10
    request_routing_stats_timeout_s: float = 30
    initial_backoff_s: float = 0.025
    backoff_multiplier: float = 2
    max_backoff_s: float = 0.5

    def __post_init__(self) -> None:
        given = self.request_router_class
        if not isinstance(given, type) and not (isinstance(given, str) and all(_place(given))):
            raise ValidationError(f"request_router_class takes a class or 'module:name', got {given!r}")
        for name in (
            "request_routing_stats_period_s",
            "request_routing_stats_timeout_s",
            "initial_backoff_s",
            "backoff_multiplier",
            "max_backoff_s",
        ):
            check_number(name, getattr(self, name), is_positive=True)
        if not isinstance(self.request_router_kwargs, Mapping):
            raise ValidationError(f"request_router_kwargs takes a dict, got {self.request_router_kwargs!r}")
        try:
            json.dumps(self.request_router_kwargs)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"request_router_kwargs must be what JSON can hold: {error}") from None

    def is_default_request_router(self) -> bool:
        """Tell whether no class was given.

        Example:
            >>> RequestRouterConfig().is_default_request_router()
            True
        """
        given = self.request_router_class
        return isinstance(given, str) and _place(given)[1] == _place(_DEFAULT_ROUTER)[1]

    def get_request_router_class(self) -> Callable[..., Any]:
        """Return the class itself.

        Example:
            >>> RequestRouterConfig().get_request_router_class().__name__
            'PowerOfTwoChoicesRequestRouter'
        """
        given = self.request_router_class
        if not isinstance(given, str):
            return given
        module, name = _place(_DEFAULT_ROUTER if self.is_default_request_router() else given)
        found: Callable[..., Any] = getattr(import_module(module), name)
        return found


def _place(path: str) -> tuple[str, str]:
    """Return the module and the name that "module:name" or "module.name" say."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    return module, name
