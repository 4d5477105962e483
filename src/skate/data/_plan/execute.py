"""From a logical plan to an execution: rules, stages, and the port that fits."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skate.data._exec.execution import Execution
from skate.data._exec.hybrid_port import HybridPort
from skate.data._exec.local_port import LocalPort
from skate.data._exec.port import Port
from skate.data._exec.schemas import SchemaWatch
from skate.data._exec.stages import Stage
from skate.data._insight.progress import make_progress
from skate.data._io.commit_letters import Failures
from skate.data._operators.dead_letters import ErrorBudget, ErrorPolicy
from skate.data._plan.logical import ActorPool, Apply, Blocks, Node, Read, Write
from skate.data._plan.names import operations
from skate.data._plan.physical import Machine, repeatable, to_stages
from skate.data._plan.rules import optimise
from skate.data._task.operators import Letter

#: Budget of an execution in the caller's process: what it reads is small, what it makes may not be.
LOCAL_MEMORY_BYTES = 1 << 30
#: Bytes of tables that take as long as one byte of a file that has to be decoded, about.
_DECODING_FACTOR = 32


@dataclass
class Letters:
    """The dead letters of an execution.

    Attributes:
        places: number of each operation in the plan, by its name.
        rows: letters of operations with ``on_error="dead_letter"``, in the order in which they came.
    """

    policies: Mapping[str, ErrorPolicy]
    budget: ErrorBudget
    places: Mapping[str, int]
    rows: list[Letter] = field(default_factory=list)

    def take(self, letters: Sequence[Letter], counts: Mapping[str, int]) -> None:
        """Keep letters, and raise if they are too many."""
        self.budget.take(letters, counts)
        for letter in letters:
            letter.operation = self.places.get(letter.stage)
        self.rows += [one for one in letters if self._is_kept(one)]
        error = self.budget.exceeded()
        if error is not None:
            raise error

    def recall(self, failures: Failures) -> None:
        """Take in what failed in the parts of the source that an earlier run of the same write wrote."""
        self.budget.recall(failures.letters, failures.skipped, failures.counts)
        self.rows += failures.letters

    def finish(self) -> None:
        """Raise if the letters are too many for all the rows that there were."""
        error = self.budget.exceeded(is_finished=True)
        if error is not None:
            raise error

    def _is_kept(self, letter: Letter) -> bool:
        if not letter.is_kept:
            return False
        policy = self.policies.get(letter.stage)
        return policy is None or policy.on_error == "dead_letter"


def execute(plan: Node, context: Any) -> Execution:
    """Return an execution of a plan that has not begun.

    Args:
        plan: the logical plan.
        context: the DataContext.
    """
    places = {one.name: number for number, one in enumerate(operations(plan))}
    plan = optimise(plan)
    port, machine = _place(plan, context)
    stages = to_stages(plan, machine)
    if isinstance(plan, Write) and plan.sink.is_resumable:
        stages = repeatable(stages)
    letters = _letters(stages, places)
    if isinstance(plan, Write):
        letters.recall(plan.sink.failures())
    execution = Execution(
        stages,
        port,
        memory_bytes=_memory_bytes(context),
        target_bytes=context.target_block_bytes,
        on_report=letters.take,
        on_end=letters.finish,
        observer=make_progress(context.progress if context.enable_progress_bars else "off"),
        most_cpus=machine.cpus,
        schemas=SchemaWatch(context.on_schema),
        stall_s=context.execution_no_progress_timeout_s,
    )
    execution.letters = letters.rows
    return execution


def _place(plan: Node, context: Any) -> tuple[Port, Machine]:
    is_ordered = not context.execution_options.may_reorder
    if _needs_processes(plan) or not _is_small(plan, context.local_limit_bytes):
        port: Port = _skate_port(context)
        return port, Machine(
            _cpus(context, port.cpus()),
            preserves_order=is_ordered,
            on_conflict=context.on_conflict,
            context=context,
        )
    available = float(len(os.sched_getaffinity(0)))
    local = LocalPort(_memory_bytes(context) or LOCAL_MEMORY_BYTES)
    port = HybridPort(local, lambda: _skate_port(context), available)
    cpus = _cpus(context, available)
    return port, Machine(
        cpus, is_local=True, preserves_order=is_ordered, on_conflict=context.on_conflict, context=context
    )


def _cpus(context: Any, available: float) -> float:
    """Return the CPUs that an execution may use: one at least."""
    options = context.execution_options
    options.validate()
    most = min(available - options.exclude_resources.cpu, options.resource_limits.cpu)
    return max(1.0, float(most))


def _memory_bytes(context: Any) -> int | None:
    """Return the budget that the settings give, or None."""
    given = context.memory_limit_bytes
    limit = context.execution_options.resource_limits.object_store_memory
    if limit == math.inf:
        return None if given is None else int(given)
    return max(1, int(limit if given is None else min(given, limit)))


def _skate_port(context: Any) -> Port:
    # The session's API is imported when a plan needs processes: small plans do without.
    from skate.data._exec.skate_port import SkatePort

    retries = context.actor_init_max_retries if context.actor_init_retry_on_errors else 0
    return SkatePort(context.pool_linger_s, retries)


def _nodes(plan: Node) -> list[Node]:
    found = [plan]
    for node in found:
        found.extend(node.inputs)
    return found


def _needs_processes(plan: Node) -> bool:
    """Tell whether a plan has a pool, or asks for resources by name."""
    for node in _nodes(plan):
        resources = getattr(node, "resources", None)
        if isinstance(node, Apply) and isinstance(node.compute, ActorPool):
            return True
        if resources is not None and (resources.num_gpus or resources.memory or resources.others):
            return True
    return False


def _is_small(plan: Node, limit_bytes: int) -> bool:
    """Tell whether all that a plan reads is known to be less than some bytes."""
    total = 0
    for node in _nodes(plan):
        if isinstance(node, Read):
            size = node.source.estimate_inmemory_data_size()
            if size is None:
                return False
            total += size * _DECODING_FACTOR if node.source.is_decoding else size
        elif isinstance(node, Blocks):
            total += sum(piece.size_bytes for piece in node.slices)
    return total < limit_bytes


def _letters(stages: Sequence[Stage], places: Mapping[str, int]) -> Letters:
    policies = {}
    for stage in stages:
        for operator in stage.operators:
            policy = getattr(operator, "policy", None)
            if isinstance(policy, ErrorPolicy):
                policies[operator.name] = policy
    limits = {name: policy.max_errors for name, policy in policies.items()}
    return Letters(policies, ErrorBudget(limits), places)
