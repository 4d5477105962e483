"""One call that goes to every replica of a deployment. On the client's loop."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from skate import api
from skate.exceptions import TaskCancelledError
from skate.serve._client.call import Call, is_death
from skate.serve._client.port import Port
from skate.serve._messages import BROADCAST
from skate.serve.exceptions import (
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)


class Broadcast:
    """A call of all replicas that run when it is sent. It needs no credits; a replica runs it in a slot.

    Its outcome is a list: the result or the exception of each replica.

    Args:
        port: of the deployment.
        call: what every replica is to run.
    """

    def __init__(self, port: Port, call: Call) -> None:
        self._port = port
        self._call = call
        #: The call at each replica.
        self._refs: dict[str, Any] = {}
        self._outcomes: dict[str, Any] = {}
        call.port = self
        port.broadcasts.add(self)
        if port.table is not None:
            self.table_changed()

    def table_changed(self) -> None:
        """The replicas are known, or others are: the first table decides."""
        table = self._port.table
        if table is None or self._refs:
            return
        if not table.replicas:
            reason = table.unavailable or "none of its replicas runs"
            self.fail(DeploymentUnavailableError(self._port.name, reason))
            return
        call, port = self._call, self._port
        context = call.context
        remaining = context.deadline - asyncio.get_running_loop().time() if context.deadline else 0.0
        meta = (
            port.router_id + BROADCAST,
            context.request_id,
            call.method,
            context.model_id,
            remaining,
            context.trace,
        )
        try:
            for name, (_, actor) in table.replicas.items():
                self._refs[name] = call.run(actor.call.remote, meta, *call.args, **call.kwargs)
        except Exception as error:  # its arguments cannot be pickled, or the session has ended
            self.fail(error)
            return
        for name, ref in self._refs.items():
            ref.as_future().add_done_callback(partial(self._done, name))

    def cancel(self, call: Call) -> None:
        """Cancel it at every replica."""
        call.is_cancelled = True
        if not self._refs:
            self.fail(RequestCancelledError(call.context.request_id))
        for ref in self._refs.values():
            api.cancel(ref)

    def fail(self, error: Exception) -> None:
        """End it without the replicas' outcomes."""
        self._port.broadcasts.discard(self)
        self._call.finish(None, error)

    def _done(self, replica: str, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            outcome = future.result()
        elif is_death(error):
            self._port.replica_gone(replica, error)
            outcome = ReplicaUnavailableError(replica, str(error or ""))
        elif error is None or self._call.is_cancelled or isinstance(error, TaskCancelledError):
            outcome = RequestCancelledError(self._call.context.request_id)
        else:
            outcome = error
        self._outcomes[replica] = outcome
        if len(self._outcomes) == len(self._refs):
            self._port.broadcasts.discard(self)
            self._call.finish([self._outcomes[name] for name in self._refs], None)
