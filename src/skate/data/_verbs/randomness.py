"""Random orders that are drawn anew in each execution, and the order of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

from skate.data._block.kernels.hashing import fresh_seed
from skate.data._operators.column_operators import RandomSample
from skate.data._operators.exchanges.shuffle import Shuffle
from skate.data._plan.logical import Apply, Exchanged, Node, Union
from skate.data._task.exchange import Exchange, ExchangeLimits
from skate.data._task.operators import Operator
from skate.data._task.slices import BlockSlice, Bundle
from skate.data.seeds import RandomSeedConfig


@dataclass(frozen=True)
class Seed:
    """A seed as a user gave it: a number, or a rule for a number in each execution.

    Attributes:
        number: the seed; None: drawn in each execution.
        reseeds: mix the number of the execution in.
    """

    number: int | None = None
    reseeds: bool = False

    @classmethod
    def of(cls, seed: int | RandomSeedConfig | None) -> Seed:
        """Return what a verb was given, checked.

        Raises:
            ValueError: no whole number of at least 0.
        """
        config = RandomSeedConfig.create_seed_config(seed)
        return cls(config.seed, config.seed is not None and config.reseed_after_execution)

    @property
    def is_fixed(self) -> bool:
        """All executions have the same number."""
        return self.number is not None and not self.reseeds

    def draw(self, execution: int) -> int:
        """Return the number of an execution.

        Args:
            execution: how many executions came before.
        """
        if self.number is None:
            return fresh_seed()
        return hash((self.number, execution)) & 0x7FFFFFFF if self.reseeds else self.number


@dataclass(frozen=True)
class ShuffleAnew(Shuffle):
    """A shuffle whose seed is drawn when an execution begins.

    Attributes:
        rule: how.
    """

    rule: Seed = Seed()

    @property
    def name(self) -> str:  # type: ignore[override]
        """For people."""
        return "RandomShuffle"

    def for_execution(self, execution: int) -> Shuffle:
        """Return the shuffle of one execution."""
        return Shuffle(self.rule.draw(execution), self.bundles)


@dataclass(frozen=True)
class BlockOrder(Exchange):
    """The same blocks in a random order.

    Attributes:
        rule: the seed.
        seed: of one execution.
    """

    rule: Seed = Seed()
    seed: int = 0
    name = "RandomizeBlockOrder"
    is_ordered = True
    preserves_rows = True

    def partition(self, side: int) -> Operator | None:
        """Rows go as they are."""
        return None

    def plan(self, sides: Sequence[Sequence[BlockSlice]], limits: ExchangeLimits) -> list[Bundle]:
        """Return one bundle for each block."""
        (side,) = sides
        pieces = list(side)
        Random(self.seed).shuffle(pieces)  # noqa: S311 - no secret
        return [Bundle((piece,)) for piece in pieces]

    def merge(self) -> Operator | None:
        """Rows go as they are."""
        return None

    def for_execution(self, execution: int) -> BlockOrder:
        """Return the order of one execution."""
        return replace(self, seed=self.rule.draw(execution))


def shuffle_of(seed: int | RandomSeedConfig | None, bundles: int | None = None) -> Shuffle:
    """Return the exchange of a shuffle, for the seed that a user gave."""
    rule = Seed.of(seed)
    if rule.is_fixed:
        return Shuffle(rule.draw(0), bundles)
    return ShuffleAnew(0, bundles, rule)


class SampleAnew(RandomSample):
    """A sample whose seed is drawn when an execution begins.

    Args:
        fraction: from 0 to 1.
        rule: how.
    """

    is_deterministic = False

    def __init__(self, fraction: float, rule: Seed) -> None:
        super().__init__(fraction, 0)
        self.rule = rule
        self.name = f"RandomSample({fraction})"

    def for_execution(self, execution: int) -> RandomSample:
        """Return the sample of one execution."""
        return RandomSample(self.fraction, self.rule.draw(execution))


def sample_of(fraction: float, seed: int | RandomSeedConfig | None) -> RandomSample:
    """Return the operator of a sample, for the seed that a user gave."""
    rule = Seed.of(seed)
    return RandomSample(fraction, rule.draw(0)) if rule.is_fixed else SampleAnew(fraction, rule)


def for_execution(plan: Node, execution: int) -> Node:
    """Return a plan in which what is drawn in each execution is drawn.

    Args:
        plan: the plan.
        execution: how many executions came before.
    """
    return rewritten(plan, lambda node: _drawn(node, execution))


def replaced(plan: Node, old: Node, new: Node) -> Node:
    """Return a plan in which a node stands in the place of another."""
    return rewritten(plan, lambda node: node, {id(old): new})


def rewritten(plan: Node, change: Callable[[Node], Node], known: dict[int, Node] | None = None) -> Node:
    """Return a plan whose nodes are changed, from the bottom up; shared nodes stay shared.

    Args:
        plan: the plan.
        change: returns what stands for a node, whose inputs are changed already.
        known: nodes by the id of those for which they stand; their inputs are not looked at.
    """
    made: dict[int, Node] = dict(known or {})

    def walk(node: Node) -> Node:
        done = made.get(id(node))
        if done is None:
            done = made[id(node)] = change(_with_inputs(node, [walk(one) for one in node.inputs]))
        return done

    return walk(plan)


def _drawn(node: Node, execution: int) -> Node:
    if isinstance(node, Exchanged):
        draw = getattr(node.exchange, "for_execution", None)
        return node if draw is None else replace(node, exchange=draw(execution))
    if isinstance(node, Apply):
        draw = getattr(node.operator, "for_execution", None)
        return node if draw is None else replace(node, operator=draw(execution))
    return node


def _with_inputs(node: Node, inputs: list[Node]) -> Node:
    """Return a node over other inputs; the node itself if they are the same."""
    if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
        return node
    names: dict[str, Any] = {one.name: getattr(node, one.name) for one in fields(node)}
    if isinstance(node, Exchanged):
        names["sides"] = tuple(inputs)
    elif isinstance(node, Union):
        names["parts"] = tuple(inputs)
    else:
        (names["input"],) = inputs
    return type(node)(**names)
