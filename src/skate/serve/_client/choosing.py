"""Which replicas a request may go to, where more than credits decides: models, sessions, custom request
routers. On the loop of a port.

The router's own order needs nothing of this. Requests for models need to know what models replicas have, and
custom request routers all facts: these are watched from the first such request on.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import pickle
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from skate.serve._client.call import Call
from skate.serve._messages import Facts, FactsTable, Table
from skate.serve._router import router as routing
from skate.serve._router.lines import Ranks
from skate.serve._router.models import Held
from skate.serve._targets import DeploymentId
from skate.serve.config import RequestRouterConfig
from skate.serve.context import ReplicaID, RequestContext
from skate.serve.request_router import PendingRequest, RequestMetadata, RequestRouter, RunningReplica

logger = logging.getLogger("skate.serve")

#: A request waits for the replica of its session at most for this time, and for this share of the time that
#: remains until its deadline; then any takes it (seconds).
_SESSION_WAIT_S, _SESSION_SHARE = 0.1, 0.1
#: A model gets another replica, if one is idle, when a request has waited for so many service times, twice as
#: long as a load takes, and at least for this time (seconds).
_MODEL_WAITS, _MODEL_LOADS, _MODEL_WAIT_S = 10, 2, 1.0
#: Idle credits for models that need another replica are looked for as often (seconds).
_LOOK_S = 0.01
#: Requests for models wait for the first facts no longer than this (seconds): there may be no controller.
_FACTS_WAIT_S = 1.0
#: A custom request router is asked for so many waiting requests at a time, the oldest, and may take so long
#: for each (seconds).
_MOST_ASKED, _ANSWER_S = 64, 10.0
#: A replica that takes longer to say whether it has room counts as full (seconds).
_ROOM_S = 0.25

Perform = Callable[[list[routing.Command]], object]
Watch = Callable[[Any, Callable[[Any], object]], object]

_numbers = itertools.count(1)


class Choosing:
    """Where the requests of one port may go.

    Args:
        name: the deployment.
        router: of the port.
        perform: carries out what it decides.
        loop: of the port.
    """

    def __init__(
        self,
        name: DeploymentId,
        router: routing.Router,
        perform: Perform,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._name = name
        self._router = router
        self._perform = perform
        self._loop = loop
        #: Watches a table of the controller's; its owner sets it, as the next two.
        self.watch: Watch = lambda what, changed: None
        #: Returns how long requests take (seconds).
        self.service_s: Callable[[], float] = lambda: 0.0
        #: The first table is going to name a class of the user's.
        self.is_custom_expected = False
        self._is_watching = False
        self._look_timer: asyncio.TimerHandle | None = None
        self._facts: dict[str, Facts] = {}
        self._table: Table | None = None
        #: The pickled request router of the user, and the router; None: there is none, or it cannot be made.
        self._code = b""
        self._config = RequestRouterConfig()
        self._custom: RequestRouter | None = None
        self._replicas: dict[str, RunningReplica] = {}
        #: Requests that it was not asked for yet, those for which it is being asked, and what ends their
        #: pauses.
        self._unasked: deque[Call] = deque()
        self._asked: dict[Hashable, asyncio.Task[None]] = {}
        self._pauses: dict[Hashable, asyncio.Future[None]] = {}
        #: Requests that wait and that it has seen, and those that were sent: where, and which.
        self._pending: dict[Hashable, PendingRequest] = {}
        self._routed: dict[Hashable, tuple[ReplicaID, str]] = {}
        self._said: set[str] = set()

    @property
    def is_custom(self) -> bool:
        """Whether a class of the user's chooses."""
        return self._custom is not None

    def is_indifferent(self, context: RequestContext, here: str) -> bool:
        """Tell whether a request may run in this process's replica without being submitted.

        Args:
            context: of the request.
            here: the replica.
        """
        if self.is_custom or context.model_id or (self._table is None and self.is_custom_expected):
            return False
        return not context.session_id or self._router.home_of(context.session_id) == here

    # ------------------------------------------------------------------ events

    def submitted(self, call: Call) -> list[routing.Command]:
        """A request came: submit it to the router, and return what that decides."""
        context = call.context
        commands = self._router.submitted(
            call.key, context.deadline, context.session_id, context.model_id, self.is_custom
        )
        if self._router.is_waiting(call.key):
            if self.is_custom:
                self._unasked.append(call)
                self._ask_more()
            elif context.model_id:
                self._follow()
                self._loop.call_later(self._model_wait_s(), self._press, call.key)
                self._look_soon()
            elif self._table is not None and self._router.is_patient(call.key):
                self._limit_patience(call)
        return commands

    def table_changed(self, table: Table, calls: list[Call]) -> None:
        """The controller has another table; these requests wait or were sent."""
        is_first, self._table = self._table is None, table
        self._config = table.routing or RequestRouterConfig()
        if table.router != self._code:
            self._code = table.router
            self._make(table.router)
            waiting = [call for call in calls if self._router.is_waiting(call.key)]
            if self.is_custom:
                new = [call for call in waiting if call.key not in self._asked]
                for call in new:
                    self._router.asked(call.key)
                self._unasked.extend(new)
        elif is_first:
            for call in calls:
                if self._router.is_patient(call.key):
                    self._limit_patience(call)
        if self.is_custom:
            self._follow()
            self._refresh()
            self._ask_more()

    def sent(self, call: Call, replica: str) -> None:
        """A request was sent."""
        pause = self._pauses.pop(call.key, None)
        if pause is not None and not pause.done():
            pause.set_result(None)
        pending = self._pending.pop(call.key, None)
        if pending is not None:
            self._routed[call.key] = self._id(replica), pending.metadata.internal_request_id
            self._call_hook("on_request_routed", pending, self._id(replica), call.ref)

    def ended(self, call: Call) -> None:
        """A request that was sent has ended."""
        routed = self._routed.pop(call.key, None)
        if routed is not None:
            self._call_hook("on_request_completed", *routed)

    def close(self) -> None:
        """The port is of no use any more."""
        for task in self._asked.values():
            task.cancel()
        self._unasked.clear()
        if self._look_timer is not None:
            self._look_timer.cancel()

    # ------------------------------------------------------------------ sessions

    def _limit_patience(self, call: Call) -> None:
        """A request waits for the replica of its session: have it take any one soon."""
        now = self._loop.time()
        wait = _SESSION_WAIT_S
        if call.context.deadline:
            wait = min(wait, (call.context.deadline - now) * _SESSION_SHARE)
        self._loop.call_at(now + wait, lambda: self._perform(self._router.let_go(call.key)))

    # ------------------------------------------------------------------ models

    def _model_wait_s(self) -> float:
        load_s = max((one.load_s for one in self._facts.values()), default=0.0)
        return max(_MODEL_WAIT_S, _MODEL_WAITS * self.service_s(), _MODEL_LOADS * load_s)

    def _press(self, key: Hashable) -> None:
        """A request for a model has waited for long."""
        self._perform(self._router.pressed(key))
        self._look_soon()

    def _look_soon(self) -> None:
        if self._look_timer is None and self._router.is_hungry:
            self._look_timer = self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._look_timer = None
        self._perform(self._router.look())
        self._look_soon()

    # ------------------------------------------------------------------ facts

    def _follow(self) -> None:
        if self._is_watching:
            return
        self._is_watching = True
        self.watch(("facts", self._name), self._facts_changed)
        self._loop.call_later(_FACTS_WAIT_S, self._go_on)

    def _go_on(self) -> None:
        if not self._router.is_informed:
            self._perform(self._router.informed({}))

    def _facts_changed(self, table: FactsTable) -> None:
        self._facts = table.replicas
        held = {name: Held(one.loaded, one.loading) for name, one in table.replicas.items()}
        self._perform(self._router.informed(held))
        self._refresh()

    # ------------------------------------------------------------------ the user's request router

    def _make(self, code: bytes) -> None:
        """Make the user's request router. If that fails, requests go in the router's own order."""
        self._custom, self._replicas = None, {}
        if not code:
            self._release()
            return
        try:
            cls, kwargs = pickle.loads(code)
            custom = cls(deployment_id=self._name, handle_source=None)
            if not callable(getattr(custom, "choose_replicas", None)):
                raise TypeError(f"{cls.__name__} has no method choose_replicas: derive it from RequestRouter")
            custom.initialize_state(**kwargs)
        except Exception as error:
            self._say("cannot be made", error)
            self._release()
            return
        self._custom = custom

    def _release(self) -> None:
        """No class chooses any more: requests that waited for it go in the router's own order."""
        for key in [*self._asked, *(call.key for call in self._unasked)]:
            self._perform(self._router.chosen(key, None))
        self._unasked.clear()

    def _refresh(self) -> None:
        """The replicas, or the facts of some, have changed."""
        custom, table = self._custom, self._table
        if custom is None or table is None:
            return
        names = self._router.replicas()
        names = [name for name in names if name not in table.blocked] or names
        before, self._replicas = self._replicas, {}
        for name in names:
            slots, actor = table.replicas[name]
            one = before.get(name)
            if one is None:
                one = RunningReplica(self._id(name), actor, partial(self._router.load, name))
            one.update_replica_info(slots, self._facts.get(name, Facts()))
            self._replicas[name] = one
        try:
            custom.update_replicas(list(self._replicas.values()))
        except Exception as error:
            self._say("failed in update_replicas", error)
        for pause in self._pauses.values():
            if not pause.done():
                pause.set_result(None)

    def _ask_more(self) -> None:
        while self._custom is not None and self._unasked and len(self._asked) < _MOST_ASKED:
            call = self._unasked.popleft()
            if self._router.is_waiting(call.key):
                # As a part of no request: it would be cancelled with that.
                task = contextvars.Context().run(self._loop.create_task, self._ask(call))
                self._asked[call.key] = task
                task.add_done_callback(partial(self._asked_for, call.key))

    def _asked_for(self, key: Hashable, _: asyncio.Task[None]) -> None:
        self._asked.pop(key, None)
        self._pauses.pop(key, None)
        self._pending.pop(key, None)  # of one that was cancelled, or expired
        self._ask_more()

    async def _ask(self, call: Call) -> None:
        """Have the user's class choose for a request, again and again until it is sent."""
        pending = self._pending[call.key] = _pending(call)
        pause_s = self._config.initial_backoff_s
        while (custom := self._custom) is not None and self._router.is_waiting(call.key):
            pause = self._pauses[call.key] = self._loop.create_future()
            if self._replicas:
                ranks: Ranks | None
                try:
                    chosen = await asyncio.wait_for(
                        custom.choose_replicas(list(self._replicas.values()), pending), _ANSWER_S
                    )
                    ranks = await self._with_room(_ranks(chosen))
                except Exception as error:
                    self._say("failed in choose_replicas", error)
                    ranks = None
                self._perform(self._router.chosen(call.key, ranks))
                if ranks is None:
                    # Until it is sent it counts among those that are asked for: all of them may fail.
                    pause_s = self._config.max_backoff_s
            await asyncio.wait([pause], timeout=pause_s)
            pause_s = min(pause_s * self._config.backoff_multiplier, self._config.max_backoff_s)

    async def _with_room(self, ranks: Ranks) -> Ranks:
        """Return the groups from the first on that may have a free slot; if none has one, all.

        A group of which no credit is here is asked. If it has room, its credits are where nobody needs them:
        it is returned alone, for its lender gets them back soon.
        """
        for index, rank in enumerate(ranks[:-1]):
            if any(self._router.has_credit(name) for name in rank):
                return ranks[index:]
            asked = [self._replicas[name] for name in rank if name in self._replicas]
            lengths = await asyncio.gather(
                *(one.get_queue_len(deadline_s=_ROOM_S) for one in asked), return_exceptions=True
            )
            if any(
                isinstance(length, int) and length < one.max_ongoing_requests
                for one, length in zip(asked, lengths, strict=True)
            ):
                return (rank,)
        return ranks

    def _id(self, replica: str) -> ReplicaID:
        return ReplicaID(replica, self._name.name, self._name.app_name)

    def _call_hook(self, hook: str, *args: Any) -> None:
        if self._custom is None:
            return
        try:
            getattr(self._custom, hook)(*args)
        except Exception as error:
            self._say(f"failed in {hook}", error)

    def _say(self, what: str, error: Exception) -> None:
        """Write down that the user's class is of no use for a request, once for each reason."""
        text = f"{what}: {type(error).__name__}: {error}"
        if text in self._said or len(self._said) > _MOST_ASKED:
            return
        self._said.add(text)
        logger.error(
            "the request router %s of %s %s. Its requests go to any replica instead. Later failures of this "
            "kind are not written.",
            self._config.request_router_class,
            self._name,
            text,
            exc_info=error,
        )


def _pending(call: Call) -> PendingRequest:
    context = call.context
    metadata = RequestMetadata(
        context.request_id,
        f"{context.request_id}/{next(_numbers)}",
        call.method or "__call__",
        context.route,
        context.app_name,
        context.model_id,
        context.session_id,
        call.entry != "call",
    )
    return PendingRequest(list(call.args), dict(call.kwargs), metadata)


def _ranks(chosen: Any) -> Ranks:
    """Return what the user's class chose as ids.

    Raises:
        TypeError: it is no list of lists of replicas.
    """
    try:
        return tuple(tuple(one.replica_id.unique_id for one in rank) for rank in chosen)
    except (TypeError, AttributeError):
        raise TypeError(
            f"it returned {chosen!r:.200}, and not a list of lists of replicas, the best first"
        ) from None
