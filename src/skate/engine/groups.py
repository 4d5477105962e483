"""Placement groups as our runtime serves them: requests to the control store, and the caller's own group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skate._base import ids
from skate._base.resources import describe, fits, to_fixed
from skate._scheduling.requirements import group_of, in_group
from skate._wire import control
from skate._wire.codec import pack, unpack
from skate._worker.process import current
from skate._worker.process.call_site import call_site, written

if TYPE_CHECKING:
    from skate._worker.core import Core
    from skate.engine.interface import GroupRequest
    from skate.options import ActorOptions, TaskOptions


class Groups:
    """The placement groups of a session, as this process knows them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        #: The bundles of groups that captured calls here, in fixed point.
        self._bundles: dict[bytes, list[dict[str, int]]] = {}

    def create(self, request: GroupRequest) -> bytes:
        """See ``GroupEngine.create_group``."""
        context = self._core.context
        group_id = ids.PlacementGroupID.of(ids.JobID(context.job_id)).binary()
        spec = pack(
            control.GroupSpec(
                request.name, context.namespace, request.strategy, request.bundles, request.selectors,
                context.job_owner, context.job_id, request.detached, request.target,
            )
        )  # fmt: skip
        data = self._core.control.ask(lambda number: control.CreateGroup(number, group_id, spec))
        reason = unpack(data, type=str)
        if reason:
            called = f"placement group {repr(request.name) if request.name else group_id.hex()}"
            context.warn(
                f"{called} cannot be reserved: {reason}. It waits until that changes, and so does what is to "
                "run in it: ask for less, or start the session with more (init(num_cpus=..., resources=...))."
            )
        return group_id

    def remove(self, group_id: bytes) -> None:
        """See ``GroupEngine.remove_group``."""
        context, where = self._core.context, written(call_site(2))
        reason = (
            f"placement group {group_id.hex()} was removed: remove_placement_group() was called in "
            f"{context.kind} process {context.pid}{where and ' at ' + where}"
        )
        self._core.control.ask(lambda request: control.RemoveGroup(request, group_id, reason))

    def find(self, name: str, group_id: bytes) -> dict[str, Any] | None:
        """See ``GroupEngine.find_group``."""
        namespace = self._core.context.namespace
        data = self._core.control.ask(lambda request: control.FindGroup(request, name, namespace, group_id))
        return unpack(data, type=dict[str, Any] | None)

    def of_caller(self) -> tuple[bytes, bool]:
        """See ``GroupEngine.current_group``."""
        host = self._core.local.hosted()
        if host is not None:
            return host.group
        function = current.call.get().function
        return function.group if isinstance(function, current.CodeName) else (b"", False)

    def take_along(self, options: TaskOptions, what: str) -> TaskOptions:
        """Return the options of a task that the caller's group captures."""
        requirement = self._captured(options.requirement, options.resources, options.resources, what)
        return options._replace(requirement=requirement, may_be_captured=False)

    def take_actor_along(self, options: ActorOptions, what: str) -> ActorOptions:
        """Return the options of an actor, which the caller's group may capture."""
        if not options.may_be_captured or not self.of_caller()[1]:
            return options
        requirement = self._captured(options.requirement, options.running, options.placement, what)
        return options._replace(requirement=requirement, may_be_captured=False)

    def _captured(
        self, requirement: bytes, resources: dict[str, int], placement: dict[str, int], what: str
    ) -> bytes:
        """Return the requirement of what is called in a group that captures.

        Raises:
            ValueError: no bundle of that group can ever give the resources.
        """
        mine, _ = self.of_caller()
        found = in_group(requirement, mine)
        if group_of(found)[0] == mine:
            bundles = self._bundles_of(mine)
            if bundles and not any(fits(resources, one) and fits(placement, one) for one in bundles):
                shown = ", ".join(map(describe, bundles))
                raise ValueError(
                    f"Cannot schedule {what} with the placement group because the resource request "
                    f"{describe(placement)} cannot fit into any bundles for the placement group, {shown}. "
                    f"The group captures what {current.call.get().name} starts: give {what} the option "
                    "scheduling_strategy='DEFAULT' to run it outside"
                )
        return found

    def _bundles_of(self, group_id: bytes) -> list[dict[str, int]]:
        if group_id not in self._bundles:
            row = self.find("", group_id)
            self._bundles[group_id] = [to_fixed(one) for one in row["bundles"]] if row is not None else []
        return self._bundles[group_id]
