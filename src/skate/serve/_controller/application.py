"""One application: its deployments together, and going back together. Decisions only: no I/O, no clock.

::

    deploy --> under way --all ready--> baking --bake time over--> good
                   |                       |
                   +-- does not start      +-- unhealthy, dies, fails more than the version before
                   v                       v
                 the version before again, in all deployments

A deployment that the target no longer has is *obsolete*. It goes on until all of the target runs: replicas of
the version before, which call it, have requests until then. An entrance goes before what it calls. If what
starts needs the resources that an obsolete deployment holds, it ends at once.

*A canary* is a second version beside the target: its deployments that differ have a few replicas of their
own, by names with ``#canary``, and routers send them a share of the requests. It becomes the target, or goes.
"""

from __future__ import annotations

import math
from dataclasses import replace

from skate.serve._answers import is_worse
from skate.serve._controller import statuses
from skate.serve._controller.capacity import at_capacity
from skate.serve._controller.deployment import Deployment, State
from skate.serve._messages import Route
from skate.serve._targets import (
    CANARY,
    ApplicationState,
    ApplicationTarget,
    Capacity,
    DeploymentTarget,
    Settings,
)
from skate.serve.exceptions import RayServeException
from skate.serve.schema import ApplicationStatus, ApplicationStatusOverview

#: So many versions that were good are kept.
_KEPT = 3
#: While a version bakes, so many deaths of its replicas are too many: one may be an accident.
_DEATHS = 2


class Application:
    """An application of the session.

    Args:
        state: what it is to be, and was.
        epoch: see ``Deployment``.
    """

    def __init__(self, state: ApplicationState, epoch: str) -> None:
        self.state = state
        self._epoch = epoch
        #: Numbers deployments, also those that were removed and came again.
        self._made = 0
        self.deployments: dict[str, Deployment] = {}
        #: The deployments that are to be: of the target, and of the canary.
        self._names: frozenset[str] = frozenset()
        #: Why the latest target, or the canary, was given up.
        self.failure = ""
        #: All deployments that HTTP or the application's handle ever led to.
        self._entrances: set[str] = set()
        #: The end of the target's bake time; None: not all of it is ready, or it is good.
        self._baked_at: float | None = None
        for name, target in state.obsolete.items():  # of the controller before
            self._deployment(name).retarget(target)
        self._retarget()

    # ------------------------------------------------------------------ events

    def deploy(self, target: ApplicationTarget, capacity: Capacity | None = None) -> None:
        """Another target is wanted. A canary goes.

        A target that runs whole and bakes without trouble counts as good then: if the new one fails, that is
        the one to go back to, rather than one that ran before it.
        """
        if self._baked_at is not None and not self._trouble():
            self._keep_target()
        self.failure = ""
        if self.is_deleting:  # nothing of what was deleted comes back
            self._change(ApplicationState(target, capacity=capacity))
            return
        target = target.with_scale_of(self.target)
        state = replace(self.state, target=target, canary=None, percent=0.0, is_back=False)
        self._change(replace(state, capacity=capacity))

    def try_out(self, target: ApplicationTarget, percent: float) -> None:
        """A canary is wanted, which gets this share of the requests (percent)."""
        self.failure = ""
        self._change(replace(self.state, canary=target, percent=percent))

    def scale(self, deployment: str, num_replicas: int) -> None:
        """A program outside wants another number of replicas; all else stays, also a canary.

        Raises:
            RayServeException: the application is not for that.
            ValueError: the number follows the load.
        """
        target = self.state.target
        old = target.deployments[deployment]
        config = old.settings.autoscaling
        if config is not None:
            raise ValueError(
                f"the number of replicas of {deployment} (application {target.name}) follows the load, from "
                f"{config.min_replicas} to {config.max_replicas}: change these bounds in its "
                "autoscaling_config, or give it num_replicas instead, and run it again"
            )
        if not self.target.external_scaler_enabled:
            raise RayServeException(
                f"application {self.target.name!r} may not be scaled from outside: run it with "
                "external_scaler_enabled=True, or say so in its config file"
            )
        new = old.scaled(num_replicas, self.state.capacity)
        deployments = {**target.deployments, deployment: new}
        self._change(replace(self.state, target=replace(target, deployments=deployments)))

    def scaled(self, deployment: str) -> None:
        """A deployment has another number of replicas, by its load: its canary's number follows."""
        canary = self.deployments.get(deployment + CANARY)
        one = self.deployments[deployment].target
        if canary is not None and one is not None:
            canary.scale(self._part_of(one.settings.num_replicas))

    def promote(self, number: int, deployed_at: float) -> None:
        """The canary becomes the target; it goes on beside it until that is ready.

        Raises:
            RayServeException: there is none.
        """
        if self.state.canary is None:
            raise RayServeException(
                f"Application {self.target.name!r} has no canary to promote: serve.run(..., canary=PERCENT) "
                "starts one"
            )
        self.failure = ""
        target = replace(self.state.canary, number=number, deployed_at=deployed_at)
        self._change(replace(self.state, target=target, is_back=False))

    def roll_back(self, number: int, deployed_at: float) -> None:
        """The canary goes; without one, the version before becomes the target. A target that is under way, or
        baking, gives way to the good one, also where it is a canary that was promoted.

        Raises:
            RayServeException: there is neither.
        """
        state, good = self.state, self.state.good
        is_new = good is not None and not state.is_back and not _is_same(good, state.target)
        is_trial = state.canary is not None and not (is_new and _is_same(state.canary, state.target))
        if not (is_trial or is_new or state.earlier):
            raise RayServeException(
                f"Application {self.target.name!r} has no version to go back to: the present one is the "
                "first that ran"
            )
        self.failure = ""
        if is_trial:
            self._drop_canary(number)
            return
        *earlier, last = (*state.earlier, good) if is_new and good is not None else state.earlier
        target = replace(last, number=number, deployed_at=deployed_at)
        self._change(
            replace(state, target=target, earlier=tuple(earlier), canary=None, percent=0.0, is_back=True)
        )

    def delete(self) -> None:
        """Nothing of it is wanted any more."""
        self.state = replace(self.state, is_deleting=True)
        self._end(list(self.deployments))

    def checked(self, now: float) -> bool:
        """Draw conclusions from what the deployments did; tell whether ``state`` has changed.

        An update that fails in one deployment is taken back in all.

        Args:
            now: on any clock (seconds).
        """
        self._remove_gone()
        if self.is_deleting:
            while self._end(list(self.deployments)):
                self._remove_gone()
            return False
        trouble = self._trouble_of_canary()
        if trouble:
            self.failure = f"the canary was given up: {trouble}"
            self._drop_canary(self.state.target.number)
            return True
        failed = [
            f"{name}: {one.failure}"
            for name, one in self.wanted.items()
            if (one.has_failed or one.rolled_back) and not name.endswith(CANARY)
        ]
        reason = "\n".join(failed)
        if reason not in self.failure:  # else it was given up for that before
            return self._give_up(reason)
        state = self.state
        trouble = "" if state.good is state.target else self._trouble()
        if trouble:
            return self._give_up(trouble)
        is_changed = self._remove_obsolete()
        if not self._is_settled():
            return is_changed
        if state.canary is not None and _is_same(state.canary, state.target):
            self._drop_canary(state.target.number)  # it was promoted
            return True
        if state.good is state.target:
            return is_changed
        if self._baked_at is None:
            self._baked_at = now + self._bake_time()
        if now < self._baked_at:
            return is_changed
        self._keep_target()
        return True

    # ------------------------------------------------------------------ rules

    def _change(self, state: ApplicationState) -> None:
        self.state = state
        self._baked_at = None
        self._retarget()

    def _keep_target(self) -> None:
        """The target is good."""
        self._baked_at = None
        state, earlier = self.state, self.state.earlier
        if state.good is not None and not _is_same(state.good, state.target):
            earlier = (*earlier, state.good)[-_KEPT:]
        self.state = replace(state, good=state.target, earlier=earlier)

    def _drop_canary(self, number: int) -> None:
        target = replace(self.state.target, number=number)
        # The same object where it is the same: a good target is not baked again.
        good = target if self.state.good is self.state.target else self.state.good
        self.state = replace(self.state, target=target, good=good, canary=None, percent=0.0)
        self._retarget()

    def _give_up(self, reason: str) -> bool:
        """Go back to the version before, if there is one; tell whether there is."""
        self.failure = reason
        good = self.state.good
        if good is None or good == self.state.target:
            return False
        self._change(replace(self.state, target=good))
        return True

    def _retarget(self) -> None:
        wanted = {
            name: at_capacity(one, self.state.capacity)
            for name, one in {**self.state.target.deployments, **self._canaries()}.items()
        }
        self._names = frozenset(wanted)
        good = self.state.good
        self._entrances |= {self.state.target.ingress, *([good.ingress] if good is not None else [])}
        for name, target in wanted.items():
            one = self._deployment(name)
            now = one.target
            is_back = one.rolled_back and now is not None and now.version == target.version
            if not is_back or (now is not None and now.capacity != target.capacity):
                one.retarget(target)
            if name.endswith(CANARY):
                one.scale(target.settings.num_replicas)  # the share may be another one
        for name, one in self.deployments.items():
            if name not in wanted and name.endswith(CANARY):
                one.retarget(None)  # its requests go to the target
        self._note_obsolete()

    def _deployment(self, name: str) -> Deployment:
        """Return a deployment, which may be a new one."""
        if name not in self.deployments:
            self._made += 1
            self.deployments[name] = Deployment(epoch=f"{self._epoch}{self._made}x")
        return self.deployments[name]

    def _note_obsolete(self) -> None:
        """Have the state name what is obsolete and not yet to end: a controller that is restarted goes on
        with it."""
        found = {
            name: one.target
            for name, one in self.deployments.items()
            if name not in self._names and one.target is not None
        }
        if found != self.state.obsolete:
            # A target that is the good one stays the same object: it is not baked again.
            self.state = replace(self.state, obsolete=found)

    def _remove_gone(self) -> None:
        for name, one in list(self.deployments.items()):
            if one.target is None and not one.replicas:
                del self.deployments[name]

    def _remove_obsolete(self) -> bool:
        """Want no more what the target does not have, as soon as nothing calls it; tell whether that is
        new."""
        obsolete = [name for name in self.deployments if name not in self._names]
        if self._is_settled():
            return self._end(obsolete)
        if any(one.is_limited and not one.can_surge for one in self.wanted.values()):
            for name in obsolete:
                target = self.deployments[name].target
                if target is not None and (target.actor_options or target.bundles):
                    self.deployments[name].retarget(None)
                    self._note_obsolete()
                    return True
        return False

    def _end(self, names: list[str]) -> bool:
        """Want deployments no more: entrances first, and what they call when they are gone; tell whether that
        is new."""
        entrances = [name for name in names if name.removesuffix(CANARY) in self._entrances]
        found = [one for name in entrances or names if (one := self.deployments[name]).target is not None]
        for one in found:
            one.retarget(None)
        self._note_obsolete()
        return bool(found)

    def _canaries(self) -> dict[str, DeploymentTarget]:
        """Return the canary's deployments that differ from those of the target; while it is promoted, those
        that there are."""
        canary, target = self.state.canary, self.state.target
        if canary is None:
            return {}
        found = {}
        for name, wanted in canary.deployments.items():
            known = target.deployments.get(name)
            if known is None:
                found[name] = wanted  # the target's code knows nothing of it: nobody else calls it
            elif known.version != wanted.version or self._has_canary(name):
                settings = self._share_of(name, wanted.settings)
                found[name + CANARY] = replace(wanted, settings=settings, capacity=self.state.capacity)
        return found

    def _share_of(self, name: str, settings: Settings) -> Settings:
        """Return the settings of a canary: as many replicas as befit its share of the requests."""
        one = self.deployments.get(name)
        target = one.target if one is not None else None
        state = self.state
        present = (target or at_capacity(state.target.deployments[name], state.capacity)).settings
        number, config = self._part_of(present.num_replicas), present.autoscaling
        if config is not None:
            # It reports its load, by which its deployment scales; and has its part of that one's replicas.
            most = self._part_of(config.max_replicas)
            config = replace(config, min_replicas=1, initial_replicas=None, max_replicas=most)
        return replace(settings, num_replicas=number, autoscaling=config)

    def _part_of(self, number: int) -> int:
        least = 0 if self.state.capacity is not None and not self.state.capacity.percent else 1
        return max(least, math.ceil(number * self.state.percent / 100))

    def _bake_time(self) -> float:
        """Return how long the target is watched once it is ready (seconds): not at all if it is the first
        version, or no other version than the good one."""
        good, target = self.state.good, self.state.target
        if good is None or _is_same(good, target):
            return 0.0
        return max(one.settings.bake_time_s for one in target.deployments.values())

    def _trouble(self) -> str:
        """Return what speaks against the target's versions that are new; or ""."""
        good = self.state.good
        for name, wanted in self.state.target.deployments.items():
            before = good.deployments.get(name) if good is not None else None
            if before is None or before.version == wanted.version:
                continue
            one = self.deployments[name]
            if one.sickness:
                return f"{name}: {one.sickness}"
            if one.deaths >= _DEATHS:
                return f"{name}: {one.deaths} replicas died, the latest so: {one.death}"
            new, old = one.answers(wanted.version), one.answers(before.version)
            if is_worse(new, old):
                return f"{name}: {new} requests failed ({old} before), the latest so: {new.latest}"
        return ""

    def _trouble_of_canary(self) -> str:
        """Return what speaks against the canary; or ""."""
        canary = self.state.canary
        for name, wanted in canary.deployments.items() if canary is not None else ():
            one = self.deployments.get(name + CANARY)
            if one is None:
                one = self.deployments.get(name) if name not in self.state.target.deployments else None
            if one is None:
                continue
            if one.has_failed or one.sickness:
                return f"{name}: {one.failure or one.sickness}"
            known = self.state.target.deployments.get(name)
            if known is not None and name in self.deployments:
                new, old = one.answers(wanted.version), self.deployments[name].answers(known.version)
                if is_worse(new, old):
                    return f"{name}: {new} requests failed ({old} without it), the latest so: {new.latest}"
        return ""

    # ------------------------------------------------------------------ facts

    @property
    def target(self) -> ApplicationTarget:
        """The target, which the deployments are brought to."""
        return self.state.target

    @property
    def wanted(self) -> dict[str, Deployment]:
        """The deployments that the target and the canary have, by name."""
        return {name: self.deployments[name] for name in self._names}

    @property
    def entrance(self) -> str:
        """The deployment that takes HTTP: the target's as soon as it runs; until then the one before."""
        good, name = self.state.good, self.target.ingress
        if self.is_deleting or good is None or good.ingress == name or good.route_prefix is None:
            return name
        is_ready = self.deployments[name].count(State.RUNNING) or good.ingress not in self.deployments
        return name if is_ready else good.ingress

    @property
    def has_http(self) -> bool:
        """Whether HTTP reaches it."""
        return self.target.route_prefix is not None and self.entrance in self.deployments

    def _is_settled(self) -> bool:
        return all(one.is_settled for one in self.wanted.values())

    @property
    def numbers(self) -> dict[str, int]:
        """How many replicas each deployment that scales automatically is to have."""
        targets = {name: one.target for name, one in self.deployments.items()}
        return {
            name: target.settings.num_replicas
            for name, target in targets.items()
            if target is not None and target.settings.autoscaling is not None and not name.endswith(CANARY)
        }

    @property
    def is_deleting(self) -> bool:
        """Whether nothing of it is wanted any more."""
        return self.state.is_deleting

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted and nothing is left."""
        return self.is_deleting and not self.deployments

    @property
    def is_watched(self) -> bool:
        """Whether it matters how requests end: there is a new version, or a canary."""
        state = self.state
        is_new = state.good is not None and state.good is not state.target
        return not self.is_deleting and (is_new or state.canary is not None)

    def wait_s(self, now: float) -> float:
        """Return how long to wait until ``checked`` may say something new (seconds); 0: for an event."""
        return max(0.001, self._baked_at - now) if self._baked_at is not None else 0.0

    @property
    def number(self) -> int:
        """The number of the latest call that wanted something of it."""
        canary = self.state.canary
        return max(self.state.target.number, canary.number if canary is not None else 0)

    @property
    def outcome(self) -> str | None:
        """How the latest target ended: "" if all of it runs, else the failure; None: it is under way."""
        if self.failure:
            return self.failure
        return "" if not self.is_deleting and self._is_settled() else None

    def status(self, now: float) -> ApplicationStatusOverview:
        """Return how it stands."""
        found = statuses.of_application(
            self.deployments, self._names, self.target.deployed_at, self.is_deleting, now
        )
        if self.failure:
            found.message = self.failure
            if self.state.good is None and not self.is_deleting:
                found.status = ApplicationStatus.DEPLOY_FAILED
        return found

    def canary_of(self, name: str) -> tuple[str, float] | None:
        """Return the deployment that gets a share of another one's requests, and the share (percent)."""
        return (name + CANARY, self.state.percent) if self._has_canary(name) else None

    def _has_canary(self, name: str) -> bool:
        one = self.deployments.get(name + CANARY)
        return one is not None and one.target is not None

    def route(self, doors: tuple[str, ...]) -> Route | None:
        """Return where its HTTP requests go, given the replicas that take connections; None: there is no
        HTTP."""
        prefix, name = self.target.route_prefix, self.entrance
        if prefix is None or self.is_deleting:
            return None
        failed = "it failed to deploy" if self.deployments[name].has_failed and not doors else ""
        return Route(prefix, self.target.name, name, doors, failed, self.canary_of(name))


def _is_same(one: ApplicationTarget, other: ApplicationTarget) -> bool:
    """Tell whether two targets have the same versions of the same deployments."""
    return {name: each.version for name, each in one.deployments.items()} == {
        name: each.version for name, each in other.deployments.items()
    }
