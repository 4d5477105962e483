"""Provides ActorPool, which spreads work over a fixed set of actors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from skate import api
from skate.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

if TYPE_CHECKING:
    from skate.actor import ActorHandle
    from skate.engine.refs import ObjectRef

#: Calls a method of an actor: takes (actor, value), returns the ref of the result.
Submit = Callable[[Any, Any], Any]


class _Work:
    """A submitted value."""

    __slots__ = ("fn", "value", "refs")

    def __init__(self, fn: Submit, value: Any) -> None:
        self.fn = fn
        self.value = value
        #: The ref or the list of refs of the call. None: not called yet.
        self.refs: Any = None


class ActorPool:
    """Hands values to actors, one at a time each, and gives the results back.

    An actor gets its next value when a ``get_next`` (or ``get_next_unordered``, or an iteration of
    ``map``) finds it done. An actor that died leaves the pool: the value on which it worked raises
    ActorDiedError, the others go to the remaining actors. An actor that restarts stays. A pool is
    not for several threads at once.

    Args:
        actors: handles of actors, which other code should not use meanwhile.

    Example:
        >>> pool = skate.util.ActorPool([Resizer.remote() for _ in range(4)])
        >>> list(pool.map(lambda actor, image: actor.resize.remote(image), images))
    """

    def __init__(self, actors: Iterable[ActorHandle[Any]]) -> None:
        self._idle: list[ActorHandle[Any]] = list(actors)
        #: Submitted, in order; no actor was free yet.
        self._waiting: deque[_Work] = deque()
        #: Running work, by the ref to wait for; also work whose result was given up.
        self._running: dict[ObjectRef[Any], tuple[_Work, ActorHandle[Any]]] = {}
        #: Submitted, not yet returned, in the order of submission; True: done.
        self._results: dict[_Work, bool] = {}
        #: How the last actor of the pool died; None: it has actors, or they were taken out.
        self._death: ActorDiedError | None = None

    def map(self, fn: Submit, values: Iterable[Any]) -> Iterator[Any]:
        """Submit all values; return an iterator over the results in the order of the values.

        Results of earlier submissions that were not taken are given up.

        Args:
            fn: called as ``fn(actor, value)``; returns the ref of a method call.
            values: the values to work on. All are submitted before this returns.

        Returns:
            An iterator; an error of a call is raised in place of its result.

        Example:
            >>> list(pool.map(lambda actor, value: actor.double.remote(value), [1, 2, 3]))
            [2, 4, 6]
        """
        self._begin(fn, values)
        return self._iterate(self.get_next)

    def map_unordered(self, fn: Submit, values: Iterable[Any]) -> Iterator[Any]:
        """Submit all values; return an iterator over the results as they become ready.

        Args:
            fn: called as ``fn(actor, value)``; returns the ref of a method call.
            values: the values to work on. All are submitted before this returns.

        Returns:
            An iterator; an error of a call is raised in place of its result.

        Example:
            >>> sorted(pool.map_unordered(lambda actor, value: actor.double.remote(value), [1, 2, 3]))
            [2, 4, 6]
        """
        self._begin(fn, values)
        return self._iterate(self.get_next_unordered)

    def _begin(self, fn: Submit, values: Iterable[Any]) -> None:
        for work in list(self._results):
            self._give_up(work)
        for value in values:
            self.submit(fn, value)

    def _iterate(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def submit(self, fn: Submit, value: Any) -> None:
        """Hand a value to an idle actor, or queue it until one is.

        Args:
            fn: called as ``fn(actor, value)``, now or later; returns the ref of a method call.
            value: the value to work on.

        Raises:
            TypeError: ``fn`` returned something else than a ref.

        Example:
            >>> pool.submit(lambda actor, value: actor.double.remote(value), 1)
            >>> pool.get_next()
            2
        """
        work = _Work(fn, value)
        self._waiting.append(work)
        self._results[work] = False
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and self._idle:
            work = self._waiting.popleft()
            actor = self._idle.pop()
            try:
                work.refs = work.fn(actor, work.value)
                first = work.refs[0] if isinstance(work.refs, list) else work.refs
                if not hasattr(first, "binary"):
                    raise TypeError(
                        f"the function given to an ActorPool must return what actor.method.remote(...) "
                        f"returned, got {work.refs!r}"
                    )
            except BaseException:
                self._idle.append(actor)
                self._results.pop(work, None)
                raise
            first._ask()  # its error may be given up along with its result
            work.value = None
            self._running[first] = (work, actor)

    def has_next(self) -> bool:
        """Tell whether a result is still to be returned, done or not.

        Example:
            >>> while pool.has_next():
            ...     print(pool.get_next())
        """
        return bool(self._results)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the result of the earliest submission that was not returned yet.

        Args:
            timeout: seconds to wait at most; None: no limit.
            ignore_if_timedout: give that result up if the time is up; the next call returns the
                result of the submission after it.

        Returns:
            The result; a list of results if the method has several returns.

        Raises:
            StopIteration: nothing was submitted that was not returned yet.
            TimeoutError: the time is up.
            ActorDiedError: the actor died, or no actor of the pool is alive.
            RayTaskError, ...: the call failed.

        Example:
            >>> pool.get_next(timeout=10)
        """
        if not self._results:
            raise StopIteration("every result was returned already; submit something first")
        work = next(iter(self._results))
        if not self._wait(lambda: self._results[work], timeout):
            self._timed_out(work, timeout, ignore_if_timedout)
        return self._take(work)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the result of any submission, the first that is ready.

        Args:
            timeout: seconds to wait at most; None: no limit.
            ignore_if_timedout: give up the result of the earliest submission if the time is up.

        Returns:
            The result; a list of results if the method has several returns.

        Raises:
            StopIteration: nothing was submitted that was not returned yet.
            TimeoutError: the time is up.
            ActorDiedError: the actor died, or no actor of the pool is alive.
            RayTaskError, ...: the call failed.

        Example:
            >>> pool.get_next_unordered(timeout=10)
        """
        if not self._results:
            raise StopIteration("every result was returned already; submit something first")
        if not self._wait(lambda: any(self._results.values()), timeout):
            self._timed_out(next(iter(self._results)), timeout, ignore_if_timedout)
        return self._take(next(work for work, done in self._results.items() if done))

    def _wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait for calls to end, and let idle actors begin waiting work, until ``done()``."""
        deadline = None if timeout is None else monotonic() + timeout
        while not done():
            if not self._running:
                if self._death is not None:
                    self._bury(self._death)
                raise RuntimeError(
                    f"{len(self._waiting)} values wait and the pool has no actor; push() one first"
                )
            left = None if deadline is None else max(0.0, deadline - monotonic())
            ready, _ = api.wait(list(self._running), num_returns=1, timeout=left)
            if not ready:
                return False
            work, actor = self._running.pop(ready[0])
            if work in self._results:
                self._results[work] = True
            self._return(actor, ready[0])
            self._start_waiting()
        return True

    def _return(self, actor: ActorHandle[Any], ref: ObjectRef[Any]) -> None:
        """Make an actor idle whose call has ended, unless the call ended because the actor died."""
        error = _death_of(actor, ref)
        if not isinstance(error, ActorDiedError):
            # An actor that restarts gets work last.
            self._idle.insert(0 if error is not None else len(self._idle), actor)
            return
        self._idle = [one for one in self._idle if one != actor]
        if not self._idle and not self._running:
            self._death = error

    def _bury(self, death: ActorDiedError) -> NoReturn:
        """Fail the value that is due next: no actor is left to work on it.

        It counts as returned, so that a loop over ``has_next`` ends.
        """
        del self._results[self._waiting.popleft()]
        raise ActorDiedError(
            f"no actor of this ActorPool is alive to work on the value; push() one to go on with the "
            f"{len(self._waiting)} value(s) that still wait. The last actor died: {death}",
            death.actor_id,
        ) from death

    def _timed_out(self, work: _Work, timeout: float | None, ignore: bool) -> None:
        text = f"no result within {timeout} s"
        if ignore:
            self._give_up(work)
            text += "; the one that is due next was given up"
        raise TimeoutError(text)

    def _give_up(self, work: _Work) -> None:
        del self._results[work]
        if work.refs is None:
            self._waiting.remove(work)

    def _take(self, work: _Work) -> Any:
        del self._results[work]
        return api.get(work.refs)

    def has_free(self) -> bool:
        """Tell whether an actor is idle and no value waits.

        Example:
            >>> if pool.has_free():
            ...     pool.submit(fn, value)
        """
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle[Any] | None:
        """Take an idle actor out of the pool; return it, or None if there is none.

        Example:
            >>> actor = pool.pop_idle()
        """
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle[Any]) -> None:
        """Add an actor to the pool; it begins with waiting values.

        Args:
            actor: the handle.

        Raises:
            ValueError: it is in the pool already.

        Example:
            >>> pool.push(Resizer.remote())
        """
        if actor in self._idle or any(actor == busy for _, busy in self._running.values()):
            raise ValueError(f"{actor!r} belongs to this pool already")
        self._death = None
        self._idle.append(actor)
        self._start_waiting()


def _death_of(actor: ActorHandle[Any], ref: ObjectRef[Any]) -> ActorDiedError | ActorUnavailableError | None:
    """Return the error of a call if it means that this actor is dead or restarts."""
    if not ref._failed:
        return None
    try:
        api.get(ref)
    except (ActorDiedError, ActorUnavailableError) as error:
        # A method may have raised it about another actor, and so may a value that the call depended on.
        if not isinstance(error, RayTaskError) and error.actor_id == actor._actor_id.hex():
            return error
    except Exception:
        return None  # the method raised; the pool raises its error in its turn
    return None
