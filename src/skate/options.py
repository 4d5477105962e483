"""Every option of ``@remote``, ``.options()`` and ``@method``: its type, default, check.

Checked once, where it is written; never on the path of a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from skate._base import ids
from skate._base.resources import Resources, to_fixed
from skate._scheduling import group_options, requirements
from skate._wire.worker import ALL
from skate._worker.process.current import SYSTEM_GROUP

Check = Callable[[str, Any], None]


def _wrong_type(name: str, right: str, value: Any) -> TypeError:
    # The first half is Ray's, and programs match on it.
    return TypeError(
        f"The type of keyword {name!r} must be {right}, but received type {type(value)}: {value!r:.200}"
    )


def _number(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type(name, "a number", value)
    if value < 0:
        raise ValueError(f"The quantity of resource {name} cannot be negative, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"option {name!r} takes a finite number, got {value!r}")


def _gpus(name: str, value: Any) -> None:
    _number(name, value)
    if value is not None and value > 1 and value != int(value):
        raise ValueError(
            f"option {name!r} takes a share of one GPU (below 1) or whole ones. GPU resource quantities >1 "
            f"must be whole numbers. The specified quantity {value!r} is invalid: no device can be shared by "
            "a task that has others as well"
        )


def _whole(least: int, nullable: bool = True) -> Check:
    def check(name: str, value: Any) -> None:
        if value is None and nullable:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(name, "a whole number", value)
        if value < least:
            special = {-1: "None, 0, -1 or a positive integer, where -1 represents infinity",
                       0: "None, 0 or a positive integer", 1: "a positive integer"}[least]  # fmt: skip
            raise ValueError(f"The keyword {name!r} only accepts {special}; got {value}")

    return check


def _num_returns(name: str, value: Any) -> None:
    if value in ("streaming", "dynamic"):
        return
    if isinstance(value, str) or (isinstance(value, int) and value < 0):
        raise ValueError(
            "The keyword 'num_returns' only accepts None, a non-negative integer, 'streaming' (for "
            f"generators), or 'dynamic'; got {value!r}"
        )
    _whole(0)(name, value)
    if value is not None and value > ids.MAX_RETURNS:
        raise ValueError(f"option 'num_returns' takes at most {ids.MAX_RETURNS}, got {value}")


def _ahead(name: str, value: Any) -> None:
    _whole(-1)(name, value)
    if value == 0:
        raise ValueError(
            f"{name}=0 is not allowed. Use a value > 0: how many items it may be ahead (-1: without limit)"
        )


def _text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise _wrong_type(name, "a string", value)
    if value == "":
        raise ValueError(f"option {name!r} must not be empty")


def _actor_name(name: str, value: Any) -> None:
    if value == "":
        raise ValueError("Actor name cannot be an empty string: leave the option 'name' out instead")
    _text(name, value)


def check_namespace(value: Any) -> None:
    """Raise unless it can be a namespace, or is None.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"namespace must be None or a string, got {value!r} ({type(value).__name__})")
    if value == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')


def check_group(group: str | None, groups: Sequence[str], method: str) -> None:
    """Raise unless an actor has this concurrency group. None: the call names none.

    Raises:
        ValueError: it has not.
    """
    if group is not None and group not in groups and group != SYSTEM_GROUP:
        raise ValueError(
            f"{method} was called in the concurrency group {group!r}, which the actor's option "
            f"concurrency_groups does not define (it has: {', '.join(groups) or 'none'})"
        )


def _namespace(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise _wrong_type(name, "a string", value)
    check_namespace(value)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"option {name!r} takes True or False, got {value!r}")


#: Resources that have an option of their own.
_OWN_OPTION = {
    "CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory", "object_store_memory": "object_store_memory"
}  # fmt: skip


def _resources(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise _wrong_type(name, "a dict", value)
    for key, amount in value.items():
        if not isinstance(key, str) or not key:
            raise TypeError(f"option 'resources' has the key {key!r}; keys are names")
        if key in _OWN_OPTION:
            instead = _OWN_OPTION[key]
            rule = (
                f"The resources dictionary must not contain the key {key!r}"
                if "memory" in key
                else "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in 'resources' "
                "keyword"
            )
            raise ValueError(f"{rule}: {key!r} is the option {instead!r}")
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise _wrong_type(f"resources[{key!r}]", "a number", amount)
        _number(key, amount)


def _flag_or_none(name: str, value: Any) -> None:
    if value is not None:
        _flag(name, value)


def _label(name: str, value: Any) -> None:
    if value != "":
        _text(name, value)


def _lifetime(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise _wrong_type(name, "a string", value)
    if value not in (None, "detached", "non_detached"):
        raise ValueError(
            f"actor `lifetime` argument must be one of 'detached', 'non_detached' and 'None', got {value!r}"
        )


def _groups(name: str, value: Any) -> None:
    if not value:
        return
    if isinstance(value, Mapping):
        for group, limit in value.items():
            if not isinstance(group, str) or not group:
                raise TypeError(f"option 'concurrency_groups' has the name {group!r}; names are strings")
            _whole(1, nullable=False)(f"concurrency_groups[{group!r}]", limit)
    else:
        raise _wrong_type(name, "a dict like {'io': 2}", value)


def _exceptions(name: str, value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, (list, tuple)):
        raise _wrong_type(name, "True, False or a list of exception types", value)
    for one in value:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise ValueError(
                f"{name} must be either a boolean or a list of exceptions; its list has {one!r}, which is no "
                "exception type"
            )


def _later(*harmless: Any) -> Check:
    """Ray has it, this version has not: only its neutral values are taken."""

    def check(name: str, value: Any) -> None:
        if not any(value is one or value == one for one in harmless):
            raise ValueError(f"option {name!r} is not supported by this version of skate yet (got {value!r})")

    return check


def _runtime_env(name: str, value: Any) -> None:
    from skate._environment import fields

    fields.check(value, "option 'runtime_env'")


def _anything(name: str, value: Any) -> None:
    pass


_COMMON: dict[str, tuple[Any, Check]] = {
    "num_cpus": (None, _number),
    "num_gpus": (None, _gpus),
    "memory": (None, _number),
    "resources": (None, _resources),
    "name": (None, _text),
    "runtime_env": (None, _runtime_env),
    "scheduling_strategy": (None, requirements.check_strategy),
    "label_selector": (None, requirements.check_selector),
    "fallback_strategy": (None, requirements.check_fallbacks),
    "placement_group": ("default", group_options.check_group),
    "placement_group_bundle_index": (-1, group_options.check_index),
    "placement_group_capture_child_tasks": (None, _flag_or_none),
    "accelerator_type": (None, _text),
    "object_store_memory": (None, _number),
    "enable_task_events": (True, _flag),
    "_labels": (None, _anything),
    "_metadata": (None, _anything),
}

TASK_OPTIONS: dict[str, tuple[Any, Check]] = _COMMON | {
    "name": (None, _label),
    "num_returns": (None, _num_returns),
    "max_retries": (3, _whole(-1)),
    "max_calls": (0, _whole(0)),
    "retry_exceptions": (False, _exceptions),
    "_generator_backpressure_num_objects": (None, _ahead),
    "_num_objects_per_yield": (1, _later(1, None)),
}

ACTOR_OPTIONS: dict[str, tuple[Any, Check]] = _COMMON | {
    "name": (None, _actor_name),
    "namespace": (None, _namespace),
    "get_if_exists": (False, _flag),
    "max_restarts": (0, _whole(-1)),
    "max_task_retries": (0, _whole(-1)),
    "lifetime": (None, _lifetime),
    "max_concurrency": (None, _whole(1)),
    "concurrency_groups": (None, _groups),
    "max_pending_calls": (-1, _whole(-1)),
    "enable_tensor_transport": (None, _later(None, False)),
    "allow_out_of_order_execution": (None, _flag_or_none),
    "_actor_generator_backpressure_num_objects": (None, _ahead),
}

METHOD_OPTIONS: dict[str, tuple[Any, Check]] = {
    "num_returns": (None, _num_returns),
    "name": (None, _label),
    "max_task_retries": (None, _whole(-1)),
    "retry_exceptions": (None, _exceptions),
    "concurrency_group": (None, _text),
    "enable_task_events": (None, _flag_or_none),
    "tensor_transport": (None, _later(None)),
    "_labels": (None, _anything),
    "_generator_backpressure_num_objects": (None, _ahead),
    "_num_objects_per_yield": (None, _later(None, 1)),
}


def check(given: Mapping[str, Any], table: Mapping[str, tuple[Any, Check]], what: str) -> None:
    """Raise if an option is unknown or has a wrong value.

    Args:
        given: the options as written.
        table: one of the tables of this module.
        what: ``a remote function``, ``an actor class``, ``an actor method``: for the message.

    Raises:
        ValueError: the name is unknown, or the value out of range.
        TypeError: the value has the wrong type, or the name is no option of a method.
    """
    for name, value in given.items():
        entry = table.get(name)
        if entry is None:
            known = ", ".join(sorted(key for key in table if not key.startswith("_")))
            if what == "an actor method":
                raise TypeError(f"{what} got an unexpected keyword argument {name!r}; it takes: {known}")
            several = {"a remote function": "remote functions", "an actor class": "actors"}.get(what, what)
            raise ValueError(f"Invalid option keyword {name} for {several}. Valid ones are: {known}")
        entry[1](name, value)


class TaskOptions(NamedTuple):
    """A remote function's options, ready to use."""

    resources: Resources
    #: None: one, or all items of a generator, as they come.
    num_returns: int | str | None
    max_retries: int
    name: str | None
    threads: int
    #: How many items a generator may be ahead of its caller; 0: without limit.
    ahead: int
    #: A worker ends after so many calls; 0: it does not.
    max_calls: int
    #: Exceptions after which it is run again: a list of types, or whether any is.
    retry_exceptions: bool | Sequence[type[BaseException]]
    runtime_env: Mapping[str, Any] | None
    #: Which nodes it may run on: a packed Requirement; empty: any.
    requirement: bytes
    #: A placement group that captures takes it along from where it is called.
    may_be_captured: bool
    #: Its calls are hidden from the state API.
    hidden: bool
    #: The options as they were written, for an engine that passes them on.
    given: Mapping[str, Any]


class ActorOptions(NamedTuple):
    """An actor class's options, ready to use."""

    placement: Resources
    running: Resources
    name: str
    namespace: str | None
    get_if_exists: bool
    #: It lives on when its creator and all handles are gone. None: the job says (see ``JobConfig``).
    detached: bool | None
    max_restarts: int
    max_task_retries: int
    #: None: one call at a time, or ASYNC_CONCURRENCY if any method is a coroutine.
    max_concurrency: int | None
    concurrency_groups: dict[str, int]
    #: How many unfinished calls a process may have; below zero: any number.
    max_pending_calls: int
    #: Calls whose arguments are there may leave before those whose are not. None: those of an actor that
    #: runs several at a time.
    out_of_order: bool | None
    runtime_env: Mapping[str, Any] | None
    #: Which nodes it may run on: a packed Requirement; empty: any.
    requirement: bytes
    #: A placement group that captures takes it along from where it is created.
    may_be_captured: bool
    #: The options as they were written, for an engine that passes them on.
    given: Mapping[str, Any]


def _explicit(given: Mapping[str, Any]) -> dict[str, float]:
    amounts: dict[str, float] = dict(given.get("resources") or {})
    for option, resource in (
        ("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory"),
        ("object_store_memory", "object_store_memory"),
    ):  # fmt: skip
        value = given.get(option)
        if value is not None:
            amounts[resource] = value
    kind = given.get("accelerator_type")
    if kind is not None:
        amounts[f"accelerator_type:{kind}"] = 0.001
    return amounts


def task_options(given: Mapping[str, Any]) -> TaskOptions:
    """Return checked options with Ray's defaults: one CPU, one return, three retries."""
    amounts = {"CPU": 1.0} | _explicit(given)
    max_retries = given.get("max_retries", 3)
    max_calls = given.get("max_calls")
    resources = to_fixed(amounts)
    strategy = group_options.strategy_of(given)
    group_options.check_fit(strategy, resources, {}, "a task")
    return TaskOptions(
        resources,
        given.get("num_returns"),
        3 if max_retries is None else max_retries,
        given.get("name") or None,
        max(1, math.ceil(amounts["CPU"])),
        max(0, given.get("_generator_backpressure_num_objects") or 0),
        # A process that used a GPU keeps memory of it as long as it lives: so it ends, by default.
        (1 if amounts.get("GPU") else 0) if max_calls is None else max_calls,
        given.get("retry_exceptions") or False,
        given.get("runtime_env"),
        requirements.encode(given),
        group_options.may_be_captured(strategy),
        given.get("enable_task_events") is False,
        given,
    )


def actor_options(given: Mapping[str, Any]) -> ActorOptions:
    """Return checked options with Ray's defaults.

    Without explicit resources an actor needs one CPU to be placed and none to run; with any, it
    holds them for life, and one CPU unless ``num_cpus`` says otherwise.
    """
    explicit = _explicit(given)
    running = to_fixed({"CPU": 1.0} | explicit if explicit else {})
    placement = running if explicit else to_fixed({"CPU": 1.0})
    strategy = group_options.strategy_of(given)
    group_options.check_fit(strategy, running, placement, "an actor")
    return ActorOptions(
        placement=placement,
        running=running,
        name=given.get("name") or "",
        namespace=given.get("namespace"),
        get_if_exists=given.get("get_if_exists", False),
        detached=None if given.get("lifetime") is None else given["lifetime"] == "detached",
        max_restarts=given.get("max_restarts") or 0,
        max_task_retries=given.get("max_task_retries") or 0,
        max_concurrency=given.get("max_concurrency"),
        concurrency_groups=dict(given.get("concurrency_groups") or {}),
        max_pending_calls=given.get("max_pending_calls") or -1,
        out_of_order=given.get("allow_out_of_order_execution"),
        runtime_env=given.get("runtime_env"),
        requirement=requirements.encode(given),
        may_be_captured=group_options.may_be_captured(strategy),
        given=given,
    )


def retry_blob(given: Any) -> bytes | None:
    """Return what ``retry_exceptions`` is in messages: see ``Call.retry``."""
    if isinstance(given, str):
        return given.encode("latin-1")  # as options of methods travel
    if isinstance(given, (list, tuple)):
        from skate._serialize.values import dump_code

        return dump_code(tuple(given))[0] if given else None
    return ALL if given else None
