"""Applications in this process: no replicas, no HTTP. For unit tests, debuggers and in-process sessions.

::

    run() --> LocalApplication            what its handles call, instead of the process's Client
                |-- LocalDeployment       one instance of the user's class each
                '-- the loop of all local applications, on one thread of its own

The user's classes, ``@serve.batch``, ``@serve.multiplexed`` and contexts are those of real replicas.
Arguments and results are not copied, nothing limits how many requests run at a time, and exceptions arrive
as they were raised.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import weakref
from collections.abc import Mapping
from typing import Any

from skate.engine import engine
from skate.engine.refs import ObjectRef
from skate.serve import context as contexts
from skate.serve._build import Builder
from skate.serve._client.call import Call, cancel_children
from skate.serve._client.client import Client
from skate.serve._replica.user_code import UserCode
from skate.serve._targets import DeploymentId, DeploymentTarget
from skate.serve.deployment import Application, Deployment
from skate.serve.exceptions import DeploymentUnavailableError, RayServeException, RequestCancelledError
from skate.serve.handle import DeploymentHandle
from skate.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
)

#: So many items of a stream are made before they are asked for.
_AHEAD = 1
_ITEM, _ERROR, _END = range(3)
_numbers = itertools.count(1)


class _Process:
    """The local applications of this process."""

    #: Has the loop that all run on; None: none has run yet.
    loop: Client | None = None
    #: By name: the latest of each.
    applications: dict[str, LocalApplication] = {}
    #: All that live, for handles that were pickled.
    all: weakref.WeakValueDictionary[int, LocalApplication] = weakref.WeakValueDictionary()


class Items:
    """The items of a streaming call, for ``for`` and ``async for``.

    Args:
        loop: on which the generator runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(_AHEAD)
        self._end: tuple[int, Any] | None = None

    async def put(self, item: Any) -> None:
        """Add an item. Waits for the one before to be taken."""
        await self._queue.put((_ITEM, item))

    async def end(self, error: BaseException | None = None) -> None:
        """End it, or fail it once the items before are taken."""
        await self._queue.put((_END, None) if error is None else (_ERROR, error))

    def cancel(self, error: BaseException) -> None:
        """Fail it now; items that were not taken are dropped."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait((_ERROR, error))

    async def _take(self) -> tuple[int, Any]:
        if self._end is not None:
            return self._end
        found = await self._queue.get()
        if found[0] != _ITEM:
            self._end = (_END, None)
        return found

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> Any:
        kind, value = asyncio.run_coroutine_threadsafe(self._take(), self._loop).result()
        if kind == _END:
            raise StopIteration
        if kind == _ERROR:
            raise value
        return value

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> Any:
        if asyncio.get_running_loop() is self._loop:
            kind, value = await self._take()
        else:
            taking = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
            kind, value = await asyncio.wrap_future(taking)
        if kind == _END:
            raise StopAsyncIteration
        if kind == _ERROR:
            raise value
        return value


class LocalDeployment:
    """The only instance of a deployment.

    Args:
        name: of the deployment.
        deployment: its class or function, and options.
        args, kwargs: of the constructor.
    """

    def __init__(self, name: DeploymentId, deployment: Deployment, args: Any, kwargs: Any) -> None:
        self.name = name
        self._made = (deployment.func_or_class, args, kwargs)
        self._settings = deployment.settings
        self._code = UserCode(DeploymentTarget(name.name, "", deployment.settings))
        replica = contexts.ReplicaID(contexts.new_id(), name.name, name.app_name)
        self._context = contexts.ReplicaContext(replica, None, 1)
        self._tasks: dict[Call, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Make the instance. Raises what user code raises."""
        contexts.local_replica.set(self._context)
        await self._code.make(*self._made)
        self._context.servable_object = self._code.servable
        await self._code.reconfigure(self._settings.user_config, self._context.rank)
        await self._code.check_health()

    async def end(self) -> None:
        """Cancel what runs, and let the instance clean up."""
        contexts.local_replica.set(self._context)
        for call in list(self._tasks):
            self.cancel(call)
        await self._code.destroy()

    def submit(self, call: Call) -> None:
        """Run a call. On the loop."""
        call.port = self
        # As a part of no request, like in a process of its own.
        task = contextvars.Context().run(asyncio.get_running_loop().create_task, self._run(call))
        self._tasks[call] = task
        task.add_done_callback(lambda _: self._tasks.pop(call, None))

    def cancel(self, call: Call) -> None:
        """Cancel a call that has not ended. On the loop."""
        if (task := self._tasks.get(call)) is not None:
            task.cancel()

    async def _run(self, call: Call) -> None:
        contexts.request.set(call.context)
        contexts.local_replica.set(self._context)
        try:
            args = [await _value(one) for one in call.args]
            kwargs = {key: await _value(one) for key, one in call.kwargs.items()}
            result = await self._code.call(call.method, tuple(args), kwargs)
            if call.entry == "stream":
                await self._stream(call, result)
                result = None
            elif inspect.isgenerator(result) or inspect.isasyncgen(result):
                raise TypeError(
                    f"the method {call.method!r} of deployment {self.name.name} is a generator: call it by "
                    "`handle.options(stream=True)`"
                )
            call.finish([result] if call.entry == "broadcast" else result, None)
        except asyncio.CancelledError:
            self._failed(call, RequestCancelledError(call.context.request_id))
        except Exception as error:
            if call.entry == "stream":
                await call.ref.end(error)
            self._failed(call, error)

    def _failed(self, call: Call, error: Exception) -> None:
        cancel_children(call.context)
        if call.entry == "stream" and isinstance(error, RequestCancelledError):
            call.ref.cancel(error)
        if call.entry == "broadcast":
            call.finish([error], None)
        call.finish(None, error)

    async def _stream(self, call: Call, result: Any) -> None:
        async for item in self._code.items(result):
            await call.ref.put(item)
        await call.ref.end()


async def _value(argument: Any) -> Any:
    return await argument if isinstance(argument, ObjectRef) else argument


class LocalApplication(Client):
    """An application in this process: what its handles call.

    Args:
        loop: of all local applications.
        name: of the application.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        super().__init__(loop)
        self.name = name
        self.ingress = ""
        self.deployments: dict[str, LocalDeployment] = {}
        self._number = next(_numbers)
        _Process.all[self._number] = self

    def handle(self, deployment_name: str) -> DeploymentHandle:
        """Return the handle of one of its deployments."""
        found = DeploymentHandle(deployment_name, self.name)
        found._caller = self
        return found

    def submit(self, name: DeploymentId, call: Call) -> None:
        """See ``Client``."""
        found = self.deployments.get(name.name)
        if call.finished:
            return  # it was cancelled before
        if call.entry == "stream":
            call.sent(Items(self.loop))
        error: Exception
        if found is None or self.is_closed:
            error = DeploymentUnavailableError(name)
        else:
            found.submit(call)
            return
        if call.entry == "stream":
            call.ref.cancel(error)
        call.finish(None, error)

    def fetch(self, ref: Any) -> Any:
        """See ``Client``: items are no refs here."""
        return ref

    async def fetch_async(self, ref: Any) -> Any:
        """See ``Client``: items are no refs here."""
        return ref

    def status(self) -> ApplicationStatusOverview:
        """Return how it stands, as ``serve.status()`` says it."""
        one = DeploymentStatusOverview(
            DeploymentStatus.HEALTHY, DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED, {"RUNNING": 1}, ""
        )
        return ApplicationStatusOverview(
            ApplicationStatus.RUNNING, "", 0.0, dict.fromkeys(self.deployments, one)
        )

    def __reduce__(self) -> Any:
        return _living, (self._number,)


def _living(number: int) -> LocalApplication:
    """Return an application to which a pickled handle belongs."""
    found = _Process.all.get(number)
    if found is None:
        raise RayServeException(
            "a handle of a local application was unpickled where that does not live: it works in its own "
            "process only"
        )
    return found


class _LocalBuilder(Builder):
    """Collects the deployments of a local application; nothing is pickled."""

    def __init__(self, application: LocalApplication) -> None:
        super().__init__(application.name)
        self._application = application

    def _handle(self, name: str) -> DeploymentHandle:
        return self._application.handle(name)

    def _target(self, deployment: Deployment, name: str, args: Any, kwargs: Any) -> DeploymentTarget:
        found = LocalDeployment(DeploymentId(name, self._app_name), deployment, args, kwargs)
        self._application.deployments[name] = found
        return DeploymentTarget(name, "", deployment.settings)


def run(application: Application, name: str) -> DeploymentHandle:
    """Run an application in this process; return the handle of its entrance.

    Handles of the application that had the name before go on calling that.

    Args:
        application: what ``bind`` returned.
        name: of the application.

    Raises:
        Exception: what a constructor raised.
    """
    if _Process.loop is None or _Process.loop.is_closed:
        _Process.loop = Client.on_a_thread()
    found = LocalApplication(_Process.loop.loop, name)
    found.ingress = _LocalBuilder(found).handle_of(application).deployment_name
    for one in found.deployments.values():
        _on_loop(one.start())
    _Process.applications[name] = found
    return found.handle(found.ingress)


def refuse_canaries(shares: Mapping[str, float]) -> None:
    """Raise if an application is to run beside its present version.

    Args:
        shares: application to the share of the requests (percent); 0: it replaces the present version.

    Raises:
        ValueError: one is.
    """
    for name, percent in shares.items():
        if percent:
            raise ValueError(
                f"canary={percent:g} of application {name!r} cannot be had in local testing mode, where an "
                "application has one version, with one instance of each deployment: leave it out to replace "
                "the present version, or run the application in a session with processes"
            )


def find(name: str) -> LocalApplication | None:
    """Return the local application of a name, in this session."""
    found = _Process.applications.get(name)
    return found if found is not None and found.engine is engine() else None


def statuses() -> dict[str, ApplicationStatusOverview]:
    """Return how the local applications of this session stand."""
    return {name: one.status() for name in [*_Process.applications] if (one := find(name)) is not None}


def delete(name: str) -> bool:
    """End a local application; tell whether there was one."""
    if (found := find(name)) is None:
        return False
    del _Process.applications[name]
    for one in found.deployments.values():
        _on_loop(one.end())
    found.is_closed = True
    return True


def shutdown() -> None:
    """End all local applications."""
    for name in [*_Process.applications]:
        if not delete(name):
            del _Process.applications[name]  # of a session that has ended
    if _Process.loop is not None:
        _Process.loop.close()
        _Process.loop = None


def _on_loop(coroutine: Any) -> None:
    """Run a coroutine to its end on the loop; raise what it raises."""
    assert _Process.loop is not None
    asyncio.run_coroutine_threadsafe(coroutine, _Process.loop.loop).result()
