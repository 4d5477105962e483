"""Autoscaling policies of users: for one deployment, or for all of an application together."""

from __future__ import annotations

import asyncio
import functools
import logging
import pickle
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from skate.serve._folders import look_first_in
from skate.serve._targets import ApplicationTarget, DeploymentId, DeploymentTarget

logger = logging.getLogger("skate.serve")


class PolicyError(Exception):
    """A policy returned what cannot be understood."""


class Policy:
    """A policy of the user's.

    Args:
        name: of the deployment or application, for messages.
        target: has the policy.
    """

    def __init__(self, name: str, target: DeploymentTarget | ApplicationTarget) -> None:
        self._name = name
        #: The policy, pickled.
        self.code = target.policy
        self._function: Callable[[Any], Awaitable[Any]] | None = None
        #: The state that it returned last: of a deployment, or by deployment.
        self.state: dict[Any, Any] = {}
        #: It is being asked, or about to be.
        self.is_asking = False
        self._failure = ""
        try:
            self._function = _loaded(target)
        except Exception as error:
            self.failed(f"it cannot be loaded: {type(error).__name__}: {error}")

    async def ask(self, question: Any) -> Any:
        """Return its answer; None: it has none. It runs on a thread, as it may take its time."""
        try:
            return None if self._function is None else await self._function(question)
        except PolicyError as error:
            self.failed(str(error))
            return None
        except Exception as error:
            self.failed(f"{type(error).__name__}: {error}")
            return None
        finally:
            self.is_asking = False

    def failed(self, reason: str) -> None:
        """The policy is of no use: say so, once for each reason. The number stays."""
        if reason != self._failure:
            self._failure = reason
            logger.error("the autoscaling policy of %s failed, what it decides on stays as it is: %s",
                         self._name, reason)  # fmt: skip


def number_of(answer: Any, state: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the number that the policy of a deployment wants, and its state from now on.

    Args:
        answer: of the policy: a number, or (number, state).
        state: until now.

    Raises:
        PolicyError: the answer is something else.
    """
    wanted, state = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, state)
    if not _is_number(wanted):
        raise PolicyError(f"it returned {answer!r} instead of a number, or (number, state)")
    return wanted, state


def numbers_of(
    answer: Any, names: Collection[DeploymentId], states: dict[DeploymentId, dict[str, Any]]
) -> tuple[dict[DeploymentId, float], dict[DeploymentId, dict[str, Any]]]:
    """Return the numbers that the policy of an application wants, and its states from now on.

    Args:
        answer: of the policy: numbers by deployment, or (numbers, states by deployment). Deployments that it
            leaves out stay as they are.
        names: the deployments that it was asked for.
        states: until now.

    Raises:
        PolicyError: the answer is something else.
    """
    numbers, new = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, states)
    new = {} if new is None else new
    if not isinstance(numbers, Mapping) or not isinstance(new, Mapping):
        raise PolicyError(
            f"it returned {answer!r} instead of numbers by deployment, or (numbers, states by deployment)"
        )
    for name in [*numbers, *new]:
        if name not in names:
            known = ", ".join(map(repr, names))
            raise PolicyError(f"it returned something for {name!r}, which is none of those it got: {known}")
    for name, wanted in numbers.items():
        if not _is_number(wanted):
            raise PolicyError(f"it returned {wanted!r} for {name!r} instead of a number")
    for name, state in new.items():
        if not isinstance(state, dict):
            raise PolicyError(f"it returned the state {state!r} for {name!r} instead of a dict")
    return dict(numbers), dict(new)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _loaded(target: DeploymentTarget | ApplicationTarget) -> Callable[[Any], Awaitable[Any]]:
    look_first_in(target.path)
    function, kwargs = pickle.loads(target.policy)
    if isinstance(function, type):
        return _Instance(functools.partial(function, **kwargs))
    return functools.partial(asyncio.to_thread, function, **kwargs)


class _Instance:
    """A policy that is a class: one instance, which is made and called on the thread of a loop of its own.

    So it can have tasks that go on between its calls: one that polls another service, say. In Ray the loop is
    the controller's; here it is another one, as a policy that takes its time must not stop the controller.

    Args:
        make: makes the instance.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(self._loop,), name="skate-serve-policy", daemon=True).start()
        weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    async def __call__(self, question: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._ask(question), self._loop))

    async def _ask(self, question: Any) -> Any:
        if self._made is None:
            try:
                self._made = self._make()
            except Exception as error:
                raise PolicyError(f"it cannot be loaded: {type(error).__name__}: {error}") from error
        return self._made(question)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
