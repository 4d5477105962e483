"""Deployments: classes and functions that are to answer requests, with their options."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType
from typing import Any, NoReturn

from skate.serve._options import checked, merged, settings_of
from skate.serve._placement import check_together
from skate.serve._targets import Settings

__all__ = ["Application", "Deployment"]


class Deployment:
    """A class or function with the options of its replicas. ``@serve.deployment`` makes it; ``bind`` gives it
    the constructor's arguments.

    Example:
        >>> @serve.deployment(num_replicas=2)
        ... class Model:
        ...     def __call__(self, request):
        ...         return "hello"
        >>> serve.run(Model.bind())
    """

    def __init__(self, func_or_class: Callable[..., Any], options: dict[str, Any]) -> None:
        check_together(options)
        self._func_or_class = func_or_class
        self._options = options
        self._settings = settings_of(options)

    @property
    def name(self) -> str:
        """The deployment's name."""
        return str(self._options.get("name") or self._func_or_class.__name__)

    @property
    def func_or_class(self) -> Callable[..., Any]:
        """The class or function itself."""
        return self._func_or_class

    @property
    def settings(self) -> Settings:
        """The options that change without a restart of replicas."""
        return self._settings

    @property
    def version(self) -> None:
        """None: the version is a hash of the code, and computed when the deployment runs."""
        return

    @property
    def num_replicas(self) -> int:
        """How many replicas it is to have."""
        return self._settings.num_replicas

    @property
    def user_config(self) -> Any:
        """The argument of ``reconfigure``."""
        return self._settings.user_config

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests a replica runs at a time."""
        return self._settings.max_ongoing_requests

    @property
    def max_queued_requests(self) -> int:
        """How many requests may wait in one calling process; -1: any number."""
        return self._settings.max_queued_requests

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        """Resources and environment of its replicas."""
        return {"num_cpus": 1, **self._options.get("ray_actor_options", {})}

    @property
    def backpressure_config(self) -> Any:
        """How requests are refused."""
        return self._options.get("backpressure_config")

    @property
    def init_args(self) -> tuple[Any, ...]:
        """Empty: ``bind`` has the constructor's arguments."""
        return ()

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """Empty: ``bind`` has the constructor's arguments."""
        return {}

    def options(self, func_or_class: Callable[..., Any] | None = None, **options: Any) -> Deployment:
        """Return the same deployment with other options.

        Args:
            func_or_class: another class or function; None: this one.
            options: those of ``@serve.deployment``.

        Raises:
            TypeError, ValueError: an option is unknown or has a wrong value.

        Example:
            >>> Model.options(num_replicas=4).bind()
        """
        return Deployment(func_or_class or self._func_or_class, merged(self._options, options))

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """Return the application that has this deployment as its entrance.

        Args:
            args, kwargs: the constructor's arguments. Applications among them, at any depth of lists, tuples
                and
                dicts, become handles to their deployments.

        Example:
            >>> serve.run(Pipeline.bind(Detector.bind(), Reader.bind("en")))
        """
        if isinstance(self._func_or_class, FunctionType) and (args or kwargs):
            raise TypeError(
                f"{self.name} is a function: bind() takes no arguments, as nothing is constructed"
            )
        return Application(self, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a deployment runs in its replicas."""
        raise RuntimeError(
            "Deployments cannot be constructed directly. Use `deployment.bind() and serve.run()` instead: "
            f"{self.name}"
        )

    def __repr__(self) -> str:
        return f"Deployment(name={self.name})"


class Application:
    """A deployment with its constructor's arguments: what ``serve.run`` takes. ``Deployment.bind`` makes
    it."""

    def __init__(self, bound_deployment: Deployment, args: tuple[Any, ...] = (), kwargs: Any = None) -> None:
        self._deployment = bound_deployment
        self._args = args
        self._kwargs: dict[str, Any] = kwargs or {}

    def __repr__(self) -> str:
        return f"Application({self._deployment.name})"


def deployment(_func_or_class: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a class or a function a deployment.

    Bare (``@serve.deployment``) or with options (``@serve.deployment(num_replicas=2)``).

    Args:
        name: of the deployment; default: that of the class or function.
        num_replicas: how many processes answer its requests; "auto": 1 to 100, as the load asks for.
        autoscaling_config: an ``AutoscalingConfig``, or a dict of its fields, instead of a fixed number.
        ray_actor_options: resources and environment of a replica: ``{"num_cpus": 1, "num_gpus": 0.5}``.
        placement_group_bundles: resources of a replica and of what it starts: ``[{"CPU": 1}, {"GPU": 1}]``.
            Each replica has a placement group of its own, which is removed when it ends; its actor is in the
            first bundle.
        placement_group_strategy: "PACK" (the default), "SPREAD", "STRICT_PACK" or "STRICT_SPREAD".
        max_replicas_per_node: so many replicas run on one node; others wait. At most 100.
        user_config: what the method ``reconfigure(user_config)`` gets, after the constructor and whenever it
            changes. JSON only.
        max_ongoing_requests: how many requests a replica runs at a time.
        max_queued_requests: how many may wait in one calling process before more are refused; -1: any number.
        backpressure_config: how they are refused: ``{"status_code": 429, "retry_after_s": 1.5}``.
        graceful_shutdown_timeout_s: how long a replica may finish its requests before it is ended (seconds).
        graceful_shutdown_wait_loop_s: taken for Ray's sake: a replica ends as soon as it has finished.
        health_check_period_s, health_check_timeout_s: how often the method ``check_health()`` is called, and
            how
            long it may take (seconds). After three failures the replica is replaced.
        max_constructor_retry_count: how many starts may fail before the deployment has failed; at most 3 for
            each
            replica.
        rolling_update_percentage: the part of the replicas that an update starts beyond ``num_replicas``.
        max_surge_percent: the same in percent, and takes precedence.
        idempotent: a request may run twice: one whose replica dies goes to another, once. (Not in Ray.) HTTP
            requests by GET or HEAD, or with a header ``Idempotency-Key``, always may.
        bake_time_s: how long the replicas of a new version are watched once they are ready (seconds). If they
            turn unhealthy, die, or fail more requests than the version before, that one comes back. (Not in
            Ray.)

    Returns:
        A Deployment.

    Raises:
        TypeError, ValueError: an option is unknown or has a wrong value.
        NotImplementedError: Ray has the option, skate has not.

    Example:
        >>> @serve.deployment
        ... async def hello(request):
        ...     return "hello"
        >>> serve.run(hello.bind())
    """
    if _func_or_class is not None:
        if not callable(_func_or_class):
            raise TypeError(f"@serve.deployment takes a class or a function, got {_func_or_class!r}")
        return Deployment(_func_or_class, checked(options))
    found = checked(options)
    return lambda func_or_class: Deployment(func_or_class, found)


def _offer_requests() -> None:
    """Have ``starlette.requests`` found after ``import starlette`` alone.

    Ray Serve imports it itself, and programs rely on that. Here it is imported when it is looked up, as the
    import takes long.
    """
    if find_spec("starlette") is not None:
        vars(import_module("starlette")).setdefault("__getattr__", _module_of_starlette)


def _module_of_starlette(name: str) -> object:
    if name in ("requests", "responses"):
        return import_module(f"starlette.{name}")
    raise AttributeError(f"module 'starlette' has no attribute {name!r}")


_offer_requests()
