"""Has the number of replicas follow the load: takes reports, asks policies, sets numbers when it is time."""

from __future__ import annotations

import asyncio
import functools
import logging
import pickle
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from skate.serve._controller.autoscaling import Autoscaler, Load
from skate.serve._controller.capacity import bounds
from skate.serve._controller.deployment import Deployment, State
from skate.serve._folders import look_first_in
from skate.serve._targets import CANARY, DeploymentId, DeploymentTarget
from skate.serve.autoscaling_policy import default_autoscaling_policy
from skate.serve.config import AutoscalingConfig, AutoscalingContext
from skate.serve.context import ReplicaID

logger = logging.getLogger("skate.serve")

Policy = Callable[[AutoscalingContext], Any]


class Scaler:
    """All deployments that scale automatically.

    Args:
        spawn: starts a coroutine that nobody waits for.
        scaled: called after a deployment got another number.
    """

    def __init__(self, spawn: Callable[[Any], None], scaled: Callable[[DeploymentId], None]) -> None:
        self._spawn = spawn
        self._scaled = scaled
        self._loop = asyncio.get_running_loop()
        self._scaled_ones: dict[DeploymentId, _Scaled] = {}
        #: Canaries, whose load is a part of their deployments'.
        self._canaries: set[DeploymentId] = set()

    def follow(self, deployments: Mapping[DeploymentId, Deployment]) -> None:
        """Scale those of the deployments that are to be scaled; forget all others."""
        for name in [name for name in self._scaled_ones if name not in deployments]:
            self._scaled_ones.pop(name).cancel()
        self._follow_canaries(
            {
                name
                for name, found in deployments.items()
                if name.name.endswith(CANARY) and found.target is not None
            }
        )
        for name, found in deployments.items():
            if name.name.endswith(CANARY):
                continue  # the application sets its number, by that of its deployment
            target = found.target
            config = target.settings.autoscaling if target is not None else None
            one = self._scaled_ones.get(name)
            if target is None or config is None:
                if one is not None:
                    self._scaled_ones.pop(name).cancel()
                continue
            if one is None or one.found is not found:
                if one is not None:
                    one.cancel()
                one = self._scaled_ones[name] = _Scaled(name, found, config, self._loop.time())
            elif one.is_for(target, config):
                continue
            one.retarget(target, config)
            self._decide_in(one, 0.0)

    def reported(self, name: DeploymentId, source: str, load: Load) -> None:
        """A process reports its part of a deployment's load."""
        if name.name.endswith(CANARY):
            if name not in self._canaries:
                return  # it has ended meanwhile
            name, source = _deployment_of(name), f"{source}/{CANARY}"
        one = self._scaled_ones.get(name)
        if one is not None:
            one.autoscaler.loads.reported(source, load, self._loop.time())
            self._decide(one)

    def gone(self, process: str) -> None:
        """A process has ended."""
        for one in self._scaled_ones.values():
            if one.autoscaler.loads.gone(process, self._loop.time()):
                self._decide_in(one, 0.0)

    def close(self) -> None:
        """Scale nothing any more."""
        self.follow({})

    def _follow_canaries(self, canaries: set[DeploymentId]) -> None:
        for name in self._canaries - canaries:
            one = self._scaled_ones.get(_deployment_of(name))
            if one is not None and one.autoscaler.loads.forget(f"/{CANARY}", self._loop.time()):
                self._decide_in(one, 0.0)
        self._canaries = canaries

    # ------------------------------------------------------------------ deciding

    def _decide_in(self, one: _Scaled, wait_s: float) -> None:
        one.cancel()
        one.timer = self._loop.call_later(wait_s, self._decide, one)

    def _decide(self, one: _Scaled) -> None:
        """Ask the policy and set the number. Policies of users run on threads: they may take their time."""
        if self._scaled_ones.get(one.name) is not one:
            return
        context = one.context(self._loop.time())
        if not context.target_num_replicas and one.autoscaler.loads.latest.total:
            self._decided(one, context, 0)  # the first request waits for no policy
        elif one.policy is None:
            self._decided(one, context, default_autoscaling_policy(context))
        elif not one.is_asking:
            one.is_asking = True
            self._spawn(self._ask(one, one.policy, context))

    async def _ask(self, one: _Scaled, policy: Policy, context: AutoscalingContext) -> None:
        try:
            answer = await asyncio.to_thread(policy, context)
        except Exception as error:
            one.failed(f"{type(error).__name__}: {error}")
            answer = context.target_num_replicas
        finally:
            one.is_asking = False
        if self._scaled_ones.get(one.name) is one:
            self._decided(one, context, answer)

    def _decided(self, one: _Scaled, context: AutoscalingContext, answer: Any) -> None:
        wanted, one.state = answer if isinstance(answer, tuple) else (answer, one.state)
        if isinstance(wanted, bool) or not isinstance(wanted, int | float):
            one.failed(f"it returned {answer!r} instead of a number, or (number, state)")
            wanted = context.target_num_replicas
        now, target = self._loop.time(), one.found.target
        if target is None:
            return
        number = target.settings.num_replicas
        new = one.autoscaler.decide(wanted, number, now)
        wait = one.autoscaler.wait_s(now)
        if one.policy is not None:
            wait = min(wait, one.autoscaler.config.metrics_interval_s)
        if wait < float("inf"):
            self._decide_in(one, wait)
        else:
            one.cancel()
        if new != number:
            one.found.scale(new)
            self._scaled(one.name)


class _Scaled:
    """One deployment."""

    def __init__(self, name: DeploymentId, found: Deployment, config: AutoscalingConfig, now: float) -> None:
        self.name = name
        self.found = found
        self.autoscaler = Autoscaler(config, now)
        #: The user's; None: the load decides.
        self.policy: Policy | None = None
        self.policy_code = b""
        self.state: dict[str, Any] = {}
        self.timer: asyncio.TimerHandle | None = None
        #: The policy is being asked.
        self.is_asking = False
        self._failure = ""

    def is_for(self, target: DeploymentTarget, config: AutoscalingConfig) -> bool:
        """Tell whether it scales by these already."""
        autoscaler = self.autoscaler
        return (autoscaler.config, autoscaler.bounds, self.policy_code) == (
            config,
            bounds(config, target.capacity),
            target.policy,
        )

    def retarget(self, target: DeploymentTarget, config: AutoscalingConfig) -> None:
        """Take another configuration, other bounds, or another policy."""
        self.autoscaler.config = config
        self.autoscaler.bounds = bounds(config, target.capacity)
        if self.policy_code == target.policy:
            return
        self.policy_code, self.policy, self.state = target.policy, None, {}
        if target.policy:
            try:
                self.policy = _loaded(target)
            except Exception as error:
                self.failed(f"it cannot be loaded: {type(error).__name__}: {error}")

    def context(self, now: float) -> AutoscalingContext:
        """Return what the policy sees."""
        found, name, config = self.found, self.name, self.autoscaler.config
        load = self.autoscaler.load(now)
        clock = time.time()
        moved = {direction: at - now + clock for direction, at in self.autoscaler.moved.items()}
        return AutoscalingContext(
            name,
            name.name,
            name.app_name,
            found.count(State.RUNNING),
            found.target.settings.num_replicas if found.target is not None else 0,
            [
                ReplicaID(one.id, name.name, name.app_name)
                for one in found.replicas.values()
                if one.state is State.RUNNING
            ],
            load.total,
            load.queued,
            {},
            {},
            *self.autoscaler.bounds,
            self.state,
            moved.get(1),
            moved.get(-1),
            clock,
            config,
        )

    def failed(self, reason: str) -> None:
        """The policy is of no use: say so, once for each reason. The number stays."""
        if reason != self._failure:
            self._failure = reason
            logger.error("the autoscaling policy of %s failed, its number of replicas stays: %s",
                         self.name, reason)  # fmt: skip

    def cancel(self) -> None:
        """Wait for nothing."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _deployment_of(canary: DeploymentId) -> DeploymentId:
    return DeploymentId(canary.name.removesuffix(CANARY), canary.app_name)


def _loaded(target: DeploymentTarget) -> Policy:
    look_first_in(target.path)
    function, kwargs = pickle.loads(target.policy)
    if isinstance(function, type):
        return cast(Policy, function(**kwargs))
    return functools.partial(function, **kwargs)
