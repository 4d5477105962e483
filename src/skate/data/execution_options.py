"""Options of executions: order, limits of resources, progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from skate.data._notices import without_effect


class NodeIdStr(str):
    """The id of a node as text."""


class ExecutionResources:
    """An amount of resources: of an execution, or a limit.

    Args:
        cpu: CPUs; None counts as 0.
        gpu: GPUs; None counts as 0.
        object_store_memory: bytes of shared memory; None counts as 0.
        memory: bytes of heap memory; None counts as 0.

    Example:
        >>> ExecutionResources.for_limits(cpu=4).satisfies_limit(ExecutionResources(cpu=8))
        False
    """

    __slots__ = ("_cpu", "_gpu", "_memory", "_object_store_memory")

    def __init__(
        self,
        cpu: float | None = None,
        gpu: float | None = None,
        object_store_memory: float | None = None,
        memory: float | None = None,
    ) -> None:
        self._cpu = _amount("cpu", cpu)
        self._gpu = _amount("gpu", gpu)
        self._object_store_memory = _amount("object_store_memory", object_store_memory)
        self._memory = _amount("memory", memory)

    @property
    def cpu(self) -> float:
        """CPUs."""
        return self._cpu

    @property
    def gpu(self) -> float:
        """GPUs."""
        return self._gpu

    @property
    def object_store_memory(self) -> float:
        """Bytes of shared memory."""
        return self._object_store_memory

    @property
    def memory(self) -> float:
        """Bytes of heap memory."""
        return self._memory

    @classmethod
    def zero(cls) -> ExecutionResources:
        """Return nothing of each."""
        return cls()

    @classmethod
    def inf(cls) -> ExecutionResources:
        """Return all one could want of each."""
        return cls.for_limits()

    @classmethod
    def for_limits(
        cls,
        cpu: float | None = None,
        gpu: float | None = None,
        object_store_memory: float | None = None,
        memory: float | None = None,
    ) -> ExecutionResources:
        """Return a limit: what is None is not limited."""
        return cls(
            *(math.inf if value is None else value for value in (cpu, gpu, object_store_memory, memory))
        )

    @classmethod
    def from_resource_dict(cls, resource_dict: Mapping[str, float]) -> ExecutionResources:
        """Return the amounts of a dict with the keys CPU, GPU, object_store_memory and memory."""
        return cls(*(resource_dict.get(key) for key in _KEYS))

    def to_resource_dict(self) -> dict[str, float]:
        """Return a dict with the keys CPU, GPU, object_store_memory and memory."""
        return dict(zip(_KEYS, self._all(), strict=True))

    @classmethod
    def combine(
        cls, resources: Iterable[ExecutionResources], fn: Callable[[list[float]], float]
    ) -> ExecutionResources:
        """Return, for each resource, what a function makes of the list of amounts."""
        columns = zip(*(one._all() for one in resources), strict=True)
        return cls(*(fn(list(column)) for column in columns))

    @classmethod
    def combine_sum(cls, resources: Iterable[ExecutionResources]) -> ExecutionResources:
        """Return the sum."""
        return cls.combine(resources, math.fsum)

    def add(self, other: ExecutionResources) -> ExecutionResources:
        """Return the sum with another amount."""
        return self._with(other, lambda a, b: a + b)

    def subtract(self, other: ExecutionResources) -> ExecutionResources:
        """Return what is left without another amount; may be negative."""
        return self._with(other, lambda a, b: a - b)

    def max(self, other: ExecutionResources) -> ExecutionResources:
        """Return the larger of each."""
        return self._with(other, max)

    def min(self, other: ExecutionResources) -> ExecutionResources:
        """Return the smaller of each."""
        return self._with(other, min)

    def scale(self, f: float) -> ExecutionResources:
        """Return the amounts times a factor."""
        return ExecutionResources(*(0.0 if value == 0 else value * f for value in self._all()))

    def floordiv(self, other: ExecutionResources) -> ExecutionResources:
        """Return how often another amount fits into each; infinite where the other is 0."""
        return self._with(other, lambda a, b: math.inf if b == 0 else a // b)

    def copy(
        self,
        cpu: float | None = None,
        gpu: float | None = None,
        memory: float | None = None,
        object_store_memory: float | None = None,
    ) -> ExecutionResources:
        """Return a copy in which what is given replaces what was."""
        return ExecutionResources(
            self._cpu if cpu is None else cpu,
            self._gpu if gpu is None else gpu,
            self._object_store_memory if object_store_memory is None else object_store_memory,
            self._memory if memory is None else memory,
        )

    def is_zero(self) -> bool:
        """Tell whether there is nothing."""
        return not any(self._all())

    def is_non_negative(self) -> bool:
        """Tell whether no amount is below 0."""
        return all(value >= 0 for value in self._all())

    def satisfies_limit(self, limit: ExecutionResources, *, ignore_object_store_memory: bool = False) -> bool:
        """Tell whether no amount is above a limit.

        Args:
            limit: the limit.
            ignore_object_store_memory: leave out shared memory.

        Returns:
            Whether it is kept.
        """
        return all(
            have <= most
            for key, have, most in zip(_KEYS, self._all(), limit._all(), strict=True)
            if not (ignore_object_store_memory and key == "object_store_memory")
        )

    def memory_str(self) -> str:
        """Return the heap memory for people: ``"1.5GiB"``."""
        return _bytes(self._memory)

    def object_store_memory_str(self) -> str:
        """Return the shared memory for people: ``"1.5GiB"``."""
        return _bytes(self._object_store_memory)

    def _all(self) -> tuple[float, float, float, float]:
        return (self._cpu, self._gpu, self._object_store_memory, self._memory)

    def _with(self, other: ExecutionResources, fn: Callable[[float, float], float]) -> ExecutionResources:
        return ExecutionResources(*(fn(a, b) for a, b in zip(self._all(), other._all(), strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecutionResources) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return (
            f"ExecutionResources(cpu={self._cpu:g}, gpu={self._gpu:g}, "
            f"object_store_memory={self.object_store_memory_str()}, memory={self.memory_str()})"
        )


_KEYS = ("CPU", "GPU", "object_store_memory", "memory")


class ExecutionOptions:
    """Options of executions: ``DataContext.get_current().execution_options``.

    Args:
        resource_limits: the most that an execution takes; what is None or infinite is not limited.
        exclude_resources: left to others (deprecated in Ray); subtracted from what the cluster has.
        preserve_order: True: the rows of the output come in the order of the input. False: in any order, as
            they are made. None, not set: in order too, which costs little; it reads as False, as in Ray.
        actor_locality_enabled: accepted for Ray's sake; tasks go where their input is.
        verbose_progress: a line of progress for each stage.
        label_selector: labels that nodes must have.

    Raises:
        TypeError: an option of a wrong type; the message names it.

    Example:
        >>> context = DataContext.get_current()
        >>> context.execution_options.preserve_order = True
    """

    def __init__(
        self,
        resource_limits: ExecutionResources | None = None,
        exclude_resources: ExecutionResources | None = None,
        preserve_order: bool | None = None,
        actor_locality_enabled: bool = True,
        verbose_progress: bool | None = None,
        label_selector: dict[str, str] | None = None,
    ) -> None:
        self.resource_limits = ExecutionResources.for_limits() if resource_limits is None else resource_limits
        self.exclude_resources = ExecutionResources.zero() if exclude_resources is None else exclude_resources
        self._preserve_order = None if preserve_order is None else _checked_order(preserve_order)
        self._actor_locality_enabled = actor_locality_enabled
        self.verbose_progress = verbose_progress
        self.label_selector = label_selector

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("resource_limits", "exclude_resources"):
            if not isinstance(value, ExecutionResources):
                raise TypeError(f"ExecutionOptions.{name} must be an ExecutionResources, got {value!r}")
        elif name == "verbose_progress" and not (value is None or isinstance(value, bool)):
            raise TypeError(f"ExecutionOptions.verbose_progress must be True, False or None, got {value!r}")
        object.__setattr__(self, name, value)

    @property
    def preserve_order(self) -> bool:
        """Whether the rows of the output must come in the order of the input; see ``may_reorder``."""
        return bool(self._preserve_order)

    @preserve_order.setter
    def preserve_order(self, value: bool) -> None:
        self._preserve_order = _checked_order(value)

    @property
    def may_reorder(self) -> bool:
        """Whether rows may come in any order: ``preserve_order`` was set to False."""
        return self._preserve_order is False

    @property
    def actor_locality_enabled(self) -> bool:
        """Accepted for Ray's sake: tasks go where their input is."""
        return self._actor_locality_enabled

    @actor_locality_enabled.setter
    def actor_locality_enabled(self, value: bool) -> None:
        without_effect("ExecutionOptions.actor_locality_enabled", "tasks go where their input is")
        self._actor_locality_enabled = value

    @property
    def locality_with_output(self) -> bool:
        """Always False: iterators of streaming_split take ``locality_hints``."""
        return False

    @locality_with_output.setter
    def locality_with_output(self, value: bool | list[str]) -> None:
        without_effect("ExecutionOptions.locality_with_output", "tasks go where their input is")

    def is_resource_limits_default(self) -> bool:
        """Tell whether no limit was set."""
        return self.resource_limits == ExecutionResources.for_limits()

    def validate(self) -> None:
        """Check that the options go together.

        Raises:
            ValueError: a resource is both limited and excluded.
        """
        for key, most, left in zip(
            _KEYS, self.resource_limits._all(), self.exclude_resources._all(), strict=True
        ):
            if most != math.inf and left > 0:
                raise ValueError(
                    f"ExecutionOptions: {key} is in resource_limits ({most:g}) and in exclude_resources "
                    f"({left:g})"
                )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecutionOptions) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        return (
            f"ExecutionOptions(resource_limits={self.resource_limits}, "
            f"exclude_resources={self.exclude_resources}, "
            f"preserve_order={self.preserve_order}, verbose_progress={self.verbose_progress})"
        )


def _checked_order(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"ExecutionOptions.preserve_order must be True or False, got {value!r}")
    return value


def _amount(name: str, value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"ExecutionResources({name}=) must be a number, got {value!r}")
    return float(value)


def _bytes(value: float) -> str:
    if math.isinf(value):
        return "inf"
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}GiB"
