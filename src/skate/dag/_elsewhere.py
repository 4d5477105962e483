"""Runs a compiled graph by the compiled graphs that the cluster of this session has of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skate._base import errors
from skate._graph.node import replace
from skate.dag._plan import Plan, Slot, Step

if TYPE_CHECKING:
    from skate.engine.interface import BuiltGraph, GraphBuilder, GraphSettings


class GraphElsewhere:
    """A compiled graph as its driver runs it, with the methods of ``_driver.Graph`` that CompiledDAG calls.

    Args:
        builder: makes it.
        plan: the work of each process.
        settings: those of the graph.

    Raises:
        NotImplementedError: the cluster's own graphs cannot have this form.
    """

    def __init__(self, builder: GraphBuilder, plan: Plan, settings: GraphSettings) -> None:
        #: Results that the program gave up, as (execution, place): see ``_results``.
        self.dropped: deque[tuple[int, int]] = deque()
        self.abandoned = False
        self.has_ended = False
        #: The end of the graph, as the first result after it showed it.
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._last = -1
        self._results: dict[tuple[int, int], Any] = {}
        self._built: BuiltGraph = builder.build(outputs_of(plan, builder), settings)

    def begin(self, values: Callable[[], Sequence[Any]], timeout: float) -> int:
        """Begin an execution; return its number. The cluster's graph knows the timeout already."""
        self._check()
        return self._begun(self._built.begin(values()))

    async def begin_async(self, values: Callable[[], Sequence[Any]], timeout: float) -> int:
        """Begin an execution from a coroutine: see ``begin``."""
        self._check()
        return self._begun(await self._built.begin_async(values()))

    def _check(self) -> None:
        if self.has_ended:
            raise errors.RayChannelError(
                "the compiled graph was torn down: describe the graph anew, and compile it"
            )
        if self._error is not None:
            raise self._error
        while self.dropped:
            self._results.pop(self.dropped.popleft(), None)

    def _begun(self, results: Sequence[Any]) -> int:
        with self._lock:
            self._last += 1
            for place, result in enumerate(results):
                self._results[self._last, place] = result
            return self._last

    def take(self, execution: int, place: int, timeout: float | None) -> Any:
        """Take an output of an execution, once. ``timeout``: in seconds; None: no limit."""
        with self._noting_the_end():
            value = self._built.take(self._results[execution, place], timeout)
        del self._results[execution, place]
        return value

    async def take_async(self, execution: int, place: int) -> Any:
        """Take an output of an execution, once, from a coroutine."""
        with self._noting_the_end():
            value = await self._built.take_async(self._results[execution, place])
        del self._results[execution, place]
        return value

    @contextmanager
    def _noting_the_end(self) -> Iterator[None]:
        try:
            yield
        except (errors.RayActorError, errors.RayChannelError) as error:
            # A method may raise such an error as its own; that of a timeout says nothing of the graph.
            if not isinstance(error, (errors.RayTaskError, errors.RayChannelTimeoutError)):
                self._error = error
            raise

    def decode(self, value: Any) -> Any:
        """Return the value: the cluster has unpickled it."""
        return value

    def end(self, timeout: float) -> bool:
        """End the graph; tell whether it has ended."""
        with self._lock:
            is_first, self.has_ended = not self.has_ended, True
        if is_first:
            self._built.end()
        return True

    def half_close(self) -> None:
        """Do nothing: the cluster's graph, to which nothing else refers, ends by itself."""


def outputs_of(plan: Plan, builder: GraphBuilder) -> list[Any]:
    """Make the nodes of a plan; return those of its outputs.

    Raises:
        NotImplementedError: the cluster's own graphs cannot have this form.
    """
    if len(set(plan.outputs)) < len(plan.outputs):
        raise _absent("return a result twice", "name each result once in MultiOutputNode")
    if any(source.kept for source in plan.sources):
        raise _absent("return an input", "the program has the input already")
    if any(source.node is None for source in plan.sources):
        raise _absent("call a method that takes no input and no result", "give the method an argument of it")
    numbers = [source.number for source in plan.sources]
    nodes = dict(zip(numbers, builder.inputs(len(numbers)), strict=True))
    waiting = [(plan.actors[part.member - 1]._info, deque(part.steps)) for part in plan.parts]
    while any(steps for _, steps in waiting):
        # The order of the plan is one of all actors, so at least one of the first steps has what it needs.
        for actor, steps in waiting:
            while steps and all(number in nodes for number in steps[0].needs):
                step = steps.popleft()
                nodes.update(
                    zip(
                        step.makes,
                        builder.call(actor, step.method, len(step.makes), _arguments(step, nodes)),
                        strict=True,
                    )
                )
    return [nodes[number] for number in plan.outputs]


def _arguments(step: Step, nodes: dict[int, Any]) -> tuple[Any, ...]:
    """Return the arguments of a step, with nodes in the places of values."""
    if step.kwargs:
        raise _absent("pass keyword arguments", f"pass those of {step.method} by position")
    for one in step.args:
        if not _is_slot(one) and replace(one, _is_slot, lambda slot: None) is not one:
            raise _absent(
                "pass a result inside a list, tuple or dictionary", f"pass it to {step.method} as an argument"
            )
    return tuple(nodes[one.number] if _is_slot(one) else one for one in step.args)


def _is_slot(value: Any) -> bool:
    return isinstance(value, Slot)


def _absent(what: str, instead: str) -> NotImplementedError:
    return NotImplementedError(
        f"compiled graphs of the cluster on which this session runs (Ray's own, the engine 'ray') cannot "
        f"{what}: {instead}, or execute() the graph without compiling it"
    )
