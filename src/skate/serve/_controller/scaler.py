"""Has the number of replicas follow the load: takes reports, asks policies, sets numbers when it is time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from skate.serve._controller.autoscaling import Autoscaler, Load
from skate.serve._controller.capacity import bounds
from skate.serve._controller.deployment import Deployment, State
from skate.serve._controller.measures import Measures, aggregated
from skate.serve._controller.policies import Policy, PolicyError, number_of, numbers_of
from skate.serve._targets import CANARY, ApplicationTarget, DeploymentId, DeploymentTarget
from skate.serve.autoscaling_policy import default_autoscaling_policy
from skate.serve.config import AutoscalingConfig, AutoscalingContext
from skate.serve.context import ReplicaID

logger = logging.getLogger("skate.serve")


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
        #: The policies that decide on all deployments of an application, by its name.
        self._together: dict[str, Policy] = {}
        #: Canaries, whose load is a part of their deployments'.
        self._canaries: set[DeploymentId] = set()

    def follow(
        self,
        deployments: Mapping[DeploymentId, Deployment],
        applications: Mapping[str, ApplicationTarget],
    ) -> None:
        """Scale those of the deployments that are to be scaled; forget all others.

        Args:
            deployments: of all applications.
            applications: by name; some have policies.
        """
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
        self._follow_applications({name: target for name, target in applications.items() if target.policy})

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

    def recorded(self, name: DeploymentId, replica: str, values: Mapping[str, float]) -> None:
        """User code of a replica says something of it. Canaries' replicas are in no policy's context."""
        one = self._scaled_ones.get(name)
        if one is not None:
            one.measures.recorded(replica, values, one.autoscaler.config.look_back_period_s, time.time())

    def gone(self, process: str) -> None:
        """A process has ended."""
        for one in self._scaled_ones.values():
            if one.autoscaler.loads.gone(process, self._loop.time()):
                self._decide_in(one, 0.0)

    def close(self) -> None:
        """Scale nothing any more."""
        self.follow({}, {})

    def _follow_applications(self, targets: Mapping[str, ApplicationTarget]) -> None:
        changed = [name for name in self._together if name not in targets]
        for name in changed:
            del self._together[name]
        for name, target in targets.items():
            if name in self._together and self._together[name].code == target.policy:
                continue
            self._together[name] = Policy(f"application {name}", target)
            changed.append(name)
            unused = [one.name.name for one in self._of(name) if one.policy is not None]
            if unused:
                logger.warning(
                    "application %s has an autoscaling policy: those of its deployments are not asked (%s)",
                    name, ", ".join(unused)
                )  # fmt: skip
        for one in [one for name in changed for one in self._of(name)]:
            self._decide_in(one, 0.0)

    def _of(self, application: str) -> list[_Scaled]:
        return [one for name, one in self._scaled_ones.items() if name.app_name == application]

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
        """Ask the policy and set the number."""
        if self._scaled_ones.get(one.name) is not one:
            return
        together = self._together.get(one.name.app_name)
        if not one.number and one.autoscaler.loads.latest.total:
            self._decided(one, 0)  # the first request waits for no policy
        elif together is not None:
            if not together.is_asking:
                together.is_asking = True
                self._spawn(self._ask_together(together, one.name.app_name))
        elif one.policy is None:
            context = one.context(self._loop.time(), {})
            self._decided(one, default_autoscaling_policy(context)[0])
        elif not one.policy.is_asking:
            one.policy.is_asking = True
            self._spawn(self._ask(one, one.policy))

    async def _ask(self, one: _Scaled, policy: Policy) -> None:
        wanted: float = one.number
        answer = await policy.ask(one.context(self._loop.time(), policy.state))
        if answer is not None:
            try:
                wanted, policy.state = number_of(answer, policy.state)
            except PolicyError as error:
                policy.failed(str(error))
        if self._scaled_ones.get(one.name) is one and one.policy is policy:
            self._decided(one, wanted)

    async def _ask_together(self, policy: Policy, application: str) -> None:
        asked = self._of(application)
        numbers: dict[DeploymentId, float] = {}
        now = self._loop.time()
        contexts = {one.name: one.context(now, policy.state.get(one.name, {})) for one in asked}
        answer = await policy.ask(contexts)
        if answer is not None:
            try:
                numbers, policy.state = numbers_of(answer, contexts, policy.state)
            except PolicyError as error:
                policy.failed(str(error))
        if self._together.get(application) is not policy:
            return  # another one is asked, or each deployment decides
        for one in asked:
            if self._scaled_ones.get(one.name) is one:
                self._decided(one, numbers.get(one.name, one.number))

    def _decided(self, one: _Scaled, wanted: float) -> None:
        now, number = self._loop.time(), one.number
        if one.found.target is None:
            return
        new = one.autoscaler.decide(wanted, number, now)
        wait = one.autoscaler.wait_s(now)
        if one.policy is not None or one.name.app_name in self._together:
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
        #: The values that user code of its replicas recorded.
        self.measures = Measures()
        #: The user's; without one the load decides.
        self.policy: Policy | None = None
        self.timer: asyncio.TimerHandle | None = None

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
        if self.policy_code != target.policy:
            self.policy = Policy(str(self.name), target) if target.policy else None

    @property
    def policy_code(self) -> bytes:
        """The pickled policy; empty: there is none."""
        return self.policy.code if self.policy is not None else b""

    @property
    def number(self) -> int:
        """How many replicas there are to be."""
        return self.found.target.settings.num_replicas if self.found.target is not None else 0

    def context(self, now: float, state: dict[str, Any]) -> AutoscalingContext:
        """Return what a policy sees that has a state."""
        found, name, config = self.found, self.name, self.autoscaler.config
        load = self.autoscaler.load(now)
        clock = time.time()
        moved = {direction: at - now + clock for direction, at in self.autoscaler.moved.items()}
        ids = {
            one.id: ReplicaID(one.id, name.name, name.app_name)
            for one in found.replicas.values()
            if one.state is State.RUNNING
        }
        series = self.measures.over(config.look_back_period_s, ids, clock)
        means = aggregated(series, config.aggregation_function)
        return AutoscalingContext(
            name,
            name.name,
            name.app_name,
            found.count(State.RUNNING),
            self.number,
            list(ids.values()),
            load.total,
            load.queued,
            {what: _by(ids, values) for what, values in means.items()},
            {what: _by(ids, values) for what, values in series.items()},
            *self.autoscaler.bounds,
            dict(state),
            moved.get(1),
            moved.get(-1),
            clock,
            config,
        )

    def cancel(self) -> None:
        """Wait for nothing."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _by(ids: Mapping[str, ReplicaID], values: Mapping[str, Any]) -> dict[ReplicaID, Any]:
    return {ids[replica]: value for replica, value in values.items()}


def _deployment_of(canary: DeploymentId) -> DeploymentId:
    return DeploymentId(canary.name.removesuffix(CANARY), canary.app_name)
