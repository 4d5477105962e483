"""Turns a bound application into what the controller is to bring about: deployments by name, code as bytes,
hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import io
import os
import pickle
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from skate import cloudpickle
from skate.serve._config import ServeApplicationSchema
from skate.serve._http.routes import check_prefix
from skate.serve._placement import STRATEGIES
from skate.serve._targets import ApplicationTarget, DeploymentTarget, Settings
from skate.serve.config import AutoscalingPolicy
from skate.serve.deployment import Application, Deployment
from skate.serve.handle import DeploymentHandle


def target_of(
    application: Application,
    name: str,
    route_prefix: str | None,
    *,
    config: ServeApplicationSchema | None = None,
    files: Sequence[str] = (),
    external_scaler_enabled: bool = False,
) -> ApplicationTarget:
    """Return what an application is to be.

    Args:
        application: what ``bind`` returned.
        name: of the application.
        route_prefix: of the paths that reach it; None: no HTTP.
        config: what a config file says of it; its options replace those in the code.
        files: whose contents make another version of every deployment, besides those of its own package.
        external_scaler_enabled: programs outside may change the number of replicas.

    Raises:
        ValueError: it cannot be a prefix; the config file names a deployment that is not there; or one scales
            automatically and from outside.
        TypeError: something in it cannot be pickled.
    """
    check_prefix(route_prefix)
    builder = Builder(name, config, files)
    ingress = builder.handle_of(application)
    if config is not None:
        _check_names(config, list(builder.targets))
    scaled = [one.name for one in builder.targets.values() if one.settings.autoscaling is not None]
    if external_scaler_enabled and scaled:
        raise ValueError(
            f"application {name!r} has external_scaler_enabled, and {scaled[0]!r} has an autoscaling_config: "
            "only one of them can say how many replicas there are"
        )
    return ApplicationTarget(
        name,
        route_prefix,
        ingress.deployment_name,
        builder.targets,
        time.time_ns(),
        time.time(),
        None if config is None else config.model_dump(exclude_unset=True),
        external_scaler_enabled,
        b"" if config is None or config.policy is None else _policy_code(config.policy),
        tuple(import_path()),
    )


def _check_names(config: ServeApplicationSchema, names: list[str]) -> None:
    for one in config.deployment_names:
        if one not in names:
            import difflib

            near = difflib.get_close_matches(one, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(names))}"
            raise ValueError(f"application {config.name!r} has no deployment {one!r}; {hint}")


class Builder:
    """Collects the deployments of one application."""

    def __init__(
        self,
        app_name: str,
        config: ServeApplicationSchema | None = None,
        files: Sequence[str] = (),
    ) -> None:
        self._app_name = app_name
        self._files = files
        self._runtime_env = {} if config is None else config.runtime_env
        #: Options of the config file, by deployment.
        self._options = {} if config is None else {one.name: one.options for one in config.deployments}
        self.targets: dict[str, DeploymentTarget] = {}
        #: Bound applications to their handles: one that is bound once and used twice is one deployment.
        self._handles: dict[int, DeploymentHandle] = {}

    def handle_of(self, application: Application) -> DeploymentHandle:
        known = self._handles.get(id(application))
        if known is not None:
            return known
        deployment = application._deployment
        args = self._with_handles(application._args)
        kwargs = self._with_handles(application._kwargs)
        name = self._free_name(deployment.name)
        handle = self._handles[id(application)] = self._handle(name)
        self.targets[name] = self._target(deployment, name, args, kwargs)
        return handle

    def _handle(self, name: str) -> DeploymentHandle:
        return DeploymentHandle(name, self._app_name)

    def _with_handles(self, value: Any) -> Any:
        """Return a value with handles in place of the applications in it."""
        if isinstance(value, Application):
            return self.handle_of(value)
        if type(value) in (list, tuple, set):
            return type(value)(self._with_handles(one) for one in value)
        if type(value) is dict:
            return {key: self._with_handles(one) for key, one in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._with_handles(one) for one in value))
        if dataclasses.is_dataclass(value) and not isinstance(value, type) and self._has_application(value):
            changes = {
                one.name: self._with_handles(getattr(value, one.name)) for one in dataclasses.fields(value)
            }
            return dataclasses.replace(value, **changes)
        return value

    def _has_application(self, value: Any) -> bool:
        return any(isinstance(getattr(value, one.name), Application) for one in dataclasses.fields(value))

    def _free_name(self, name: str) -> str:
        if name not in self.targets:
            return name
        number = next(number for number in range(1, sys.maxsize) if f"{name}_{number}" not in self.targets)
        return f"{name}_{number}"

    def _target(self, deployment: Deployment, name: str, args: Any, kwargs: Any) -> DeploymentTarget:
        deployment = self._configured(deployment, name)
        made = deployment.func_or_class
        code = _code(made, args, kwargs, name)
        options = dict(deployment._options.get("ray_actor_options", {}))
        version = hashlib.sha256(_without_class_ids(_without_files((made, args, kwargs))))
        version.update(repr(sorted(options.items(), key=str)).encode())
        bundles = tuple(map(dict, deployment._options.get("placement_group_bundles", ())))
        strategy = deployment._options.get("placement_group_strategy", STRATEGIES[0])
        if bundles:
            version.update(repr((bundles, strategy)).encode())
        for path in sorted({*source_files(made), *self._files}):
            with open(path, "rb") as file:
                version.update(file.read())
        settings, policy = _without_policy(deployment.settings)
        settings, router = _without_router(settings)
        return DeploymentTarget(
            name,
            version.hexdigest()[:16],
            settings,
            options,
            code,
            tuple(import_path()),
            policy,
            router,
            bundles=bundles,
            strategy=strategy,
        )

    def _configured(self, deployment: Deployment, name: str) -> Deployment:
        """Return a deployment with the options and the environment that the config file gives it."""
        given = self._options.get(name, {})
        found = deployment.options(**given) if given else deployment
        if not self._runtime_env:
            return found
        actor_options = found._options.get("ray_actor_options", {})
        own = actor_options.get("runtime_env") or {}
        environment = {**self._runtime_env, **own}
        variables = {**self._runtime_env.get("env_vars", {}), **own.get("env_vars", {})}
        if variables:
            environment["env_vars"] = variables
        return found.options(ray_actor_options={**actor_options, "runtime_env": environment})


def _without_policy(settings: Settings) -> tuple[Settings, bytes]:
    """Return settings that any process can read, and their pickled autoscaling policy; empty: the default."""
    config = settings.autoscaling
    code = _policy_code(config.policy) if config is not None else b""
    if config is None or not code:
        return settings, b""
    plain = dataclasses.replace(config, policy=AutoscalingPolicy())
    return dataclasses.replace(settings, autoscaling=plain), code


def _policy_code(policy: AutoscalingPolicy) -> bytes:
    """Return a pickled autoscaling policy; empty: the default."""
    function = policy.policy_function
    if policy.is_default_policy_function():
        return b""
    if isinstance(function, str):
        module, _, attribute = function.partition(":")
        function = getattr(import_module(module), attribute)
    return _pickled(function, policy.policy_kwargs)


def _without_router(settings: Settings) -> tuple[Settings, bytes]:
    """Return settings that any process can read, and their pickled request router; empty: the default."""
    config = settings.routing
    if config is None or config.is_default_request_router():
        return settings, b""
    cls = config.get_request_router_class()
    plain = dataclasses.replace(
        config, request_router_class=f"{cls.__module__}:{cls.__qualname__}", request_router_kwargs={}
    )
    return dataclasses.replace(settings, routing=plain), _pickled(cls, config.request_router_kwargs)


def _pickled(code: Any, kwargs: Any) -> bytes:
    return pickled((code, kwargs), [code])


def pickled(value: Any, code: Iterable[Any]) -> bytes:
    """Return code of the user's for other processes, by value: they outlive versions of its modules.

    Args:
        value: what is pickled.
        code: the functions and classes in it.
    """
    owners = {one.__module__: sys.modules.get(one.__module__) for one in code if hasattr(one, "__module__")}
    own = [
        owner
        for name, owner in owners.items()
        if name != "__main__" and (path := getattr(owner, "__file__", None)) is not None and is_users(path)
    ]
    for owner in own:
        cloudpickle.register_pickle_by_value(owner)
    try:
        return cloudpickle.dumps_debug(value)
    finally:
        for owner in own:
            cloudpickle.unregister_pickle_by_value(owner)


def _code(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> bytes:
    """Return the code and the arguments of a deployment as bytes.

    Raises:
        TypeError: something in them cannot be pickled; the message has the path to it.
    """
    try:
        return cloudpickle.dumps((made, args, kwargs))
    except (TypeError, pickle.PicklingError) as error:
        shown = made.__qualname__
        named = {f"argument {index} of bind()": one for index, one in enumerate(args)}
        named |= {f"the argument {key!r} of bind()": one for key, one in kwargs.items()}
        for where, one in {shown: made, **named}.items():
            try:
                cloudpickle.dumps(one)
            except Exception:
                where, part = cloudpickle.find_unpicklable(one, where)
                kind = type(part)
                raise TypeError(
                    f"deployment {name!r} cannot be sent to its replicas: {where} is {kind.__module__}."
                    f"{kind.__qualname__} ({error}). Make it in the constructor of {shown}, which runs in "
                    "each replica"
                ) from None
        raise


class _NamelessPickler(cloudpickle.CloudPickler):
    """Pickles code without the names of files."""

    names_files = False


def _without_files(value: Any) -> bytes:
    """Return pickled code that is the same after a program has moved, or a notebook's cell has run again."""
    with io.BytesIO() as file:
        _NamelessPickler(file).dump(value)
        return file.getvalue()


def _without_class_ids(code: bytes) -> bytes:
    """Return pickled code without the random ids by which cloudpickle finds a class again: they differ from
    process to process, and so would the versions that two runs of a program give the same code."""
    from cloudpickle import cloudpickle as pickler

    for one in list(pickler._DYNAMIC_CLASS_TRACKER_BY_ID):
        code = code.replace(one.encode(), b"")
    return code


def source_files(made: Any) -> list[str]:
    """Return the files whose change makes another version of a class: its module, and the package around it.

    A class of a module that can be imported is pickled by its name, which says nothing of its code.
    """
    module = sys.modules.get(inspect.unwrap(made).__module__)
    if module is None or module.__name__ == "__main__":
        return []
    package = sys.modules.get(module.__name__.partition(".")[0], module)
    if package.__name__ == "skate":
        return []
    # All files, whether they are loaded here or not: which are is chance, and replicas load others.
    found = {getattr(package, "__file__", None)}
    for folder in getattr(package, "__path__", ()):
        for root, _, names in os.walk(folder):
            found |= {os.path.join(root, name) for name in names if name.endswith(".py")}
    return sorted(path for path in found if path is not None and is_users(path))


def is_users(path: str) -> bool:
    """Tell whether a file is the user's own, rather than installed."""
    return os.path.isfile(path) and not any(
        path.startswith(sysconfig.get_path(which) + os.sep) for which in ("stdlib", "purelib", "platlib")
    )


def import_path() -> list[str]:
    """Return where this process finds modules: replicas look there, too."""
    return [os.path.abspath(one or os.getcwd()) for one in sys.path if not one or os.path.isdir(one)]
