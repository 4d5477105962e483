"""Defines the exception tree by Ray's names, so that ``except`` clauses written for Ray work.

Every class survives pickling. Every message says what happened, to which task, actor or object, why, and what
to do. A class is added together with the behaviour that raises it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from skate._base.bare import copy_fields
from skate._base.dual import MODULE, dual_type
from skate._base.user_errors import args_of, attributes_of, group_of, is_a, native_type, set_args

#: Returns the lines that IPython shows for an error. ``skate._serialize.tracebacks`` sets it: it knows which
#: frames are the user's.
render_traceback: Callable[[BaseException], list[str]] | None = None
#: Returns what ``pickle`` keeps of a RayTaskError. ``skate._serialize.exceptions`` sets it: it can pickle
#: causes that ``pickle`` cannot.
reduce_task_error: Callable[[RayTaskError], tuple[Any, ...]] | None = None


class RayError(Exception):
    """Base of everything that the runtime raises about tasks, actors and objects."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and notebooks show: see ``skate._serialize.tracebacks``."""
        if render_traceback is not None:
            return render_traceback(self)
        from traceback import format_exception

        return "".join(format_exception(self)).splitlines()

    def to_bytes(self) -> bytes:
        """Return the error as bytes, for ``from_bytes``."""
        import pickle

        try:
            return pickle.dumps(self)
        except Exception:  # cloudpickle also takes the user's types of ``__main__``
            import cloudpickle

            data: bytes = cloudpickle.dumps(self)
            return data

    @staticmethod
    def from_bytes(b: bytes) -> RayError:
        """Return the error that ``to_bytes`` turned into bytes. Only pass bytes that you trust: they are
        unpickled.

        Raises:
            TypeError: they are something else.
        """
        import pickle

        found = pickle.loads(b)
        if not isinstance(found, RayError):
            raise TypeError(f"these bytes are no RayError but {type(found).__name__}")
        return found

    @staticmethod
    def from_ray_exception(ray_exception: RayError) -> RayError:
        """Return the error itself: skate has no other form of it."""
        return ray_exception


class RayTaskError(RayError):
    """A task or actor method raised. The error that ``get`` raises is also an instance of the user's own
    type.

    Args:
        function_name: the task or ``Class.method`` that raised.
        traceback_str: the traceback as the worker saw it, formatted there.
        cause: the user's exception, or a substitute that says why it could not be pickled.
        proctitle: the title of the worker process, as ``ps`` shows it.
        pid: process id of the worker.
        ip: address of the worker's node.
        actor_repr: ``repr`` of the actor, if it was one.
        actor_id: hex id of the actor, if it was one.

    Attributes:
        cause: the user's exception itself.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.proctitle = proctitle
        self.pid = pid
        self.ip = ip
        self.actor_repr = actor_repr
        self.actor_id = actor_id
        super().__init__(function_name, traceback_str, cause, proctitle, pid, ip, actor_repr, actor_id)

    def __str__(self) -> str:
        if is_a(self.cause, TaskCancelledError):
            at = f"; it was here:\n{self.traceback_str.rstrip()}" if self.traceback_str else ""
            return f"{self.cause}{at}"
        actor = f", actor {self.actor_repr}" if self.actor_repr else ""
        head = f"{self.function_name} failed in worker process {self.pid}{actor}:"
        return f"{head}\n{self.traceback_str.rstrip()}"

    def __reduce__(self) -> tuple[Any, ...]:
        # An error that get() raised has the user's type, too, and keeps it in every process.
        if reduce_task_error is not None:
            return reduce_task_error(self)
        # The runtime is not loaded: the program made the error itself.
        return (RayTaskError if type(self) is RayTaskError else _rebuild_dual), self.fields

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return RayTaskError.__reduce__(self)  # not the one of the user's type

    @property
    def fields(self) -> tuple[Any, ...]:
        """Return the constructor's arguments."""
        return (self.function_name, self.traceback_str, self.cause, self.proctitle, self.pid, self.ip,
                self.actor_repr, self.actor_id)  # fmt: skip

    def as_instanceof_cause(self) -> RayTaskError:
        """Return this error as an instance of the user's type as well, where Python allows it."""
        cause_type = type(self.cause)
        if any(base is cause_type for base in RayTaskError.__mro__):
            return self
        try:
            return self.make_dual_exception_instance()
        except BaseException:
            # The type forbids subclasses, in whatever way, or its layout conflicts: ``except
            # RayTaskError`` still works.
            return self

    def make_dual_exception_instance(self) -> RayTaskError:
        """Return an instance of ``RayTaskError(<type of the cause>)``; attributes of the cause are there.

        Raises:
            TypeError: the cause's type cannot be subclassed together with this one (or whatever else that
                type raises for the attempt).
        """
        cause = self.cause
        kind = dual_type(RayTaskError, type(cause))
        # Made by the built-in type whose layout it has: the user's own __new__ may ask for arguments.
        error: Any = native_type(kind).__new__(kind, *(group_of(cause) or ()))
        held = attributes_of(error)
        held.update(attributes_of(cause))
        held.update(self.__dict__)
        set_args(error, args_of(cause))
        copy_fields(cause, error)
        return error  # type: ignore[no-any-return]


class UserCodeException(RayError):
    """Stands for a user's exception that could not be pickled; its text says which one and why."""


def _rebuild_dual(*fields: Any) -> RayTaskError:
    return RayTaskError(*fields).as_instanceof_cause()


class UnserializableException(RayError):
    """An exception that arrived could not be unpickled here; the text has its traceback.

    Args:
        original_stack_trace: the remote traceback, formatted there.
    """

    def __init__(self, original_stack_trace: str) -> None:
        super().__init__(original_stack_trace)
        self.original_stack_trace = original_stack_trace

    def __str__(self) -> str:
        return (
            "a remote task raised an exception that cannot be unpickled in this process (is its "
            f"module importable here?). Its traceback there:\n{self.original_stack_trace}"
        )


class RaySystemError(RayError):
    """The runtime itself failed: a role died or sent an unexpected message.

    Args:
        client_exc: what happened.
        traceback_str: where, if known.
    """

    def __init__(self, client_exc: object, traceback_str: str | None = None) -> None:
        super().__init__(client_exc, traceback_str)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        tail = f"\n{self.traceback_str}" if self.traceback_str else ""
        return f"{self.client_exc}{tail}"


class LocalRayletDiedError(RaySystemError):
    """The node daemon of this process ended, so no new task or actor can start here."""


class RayChannelError(RaySystemError):
    """A compiled graph cannot go on: it was torn down, or a connection of it broke. Compile it again."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A compiled graph had no result, or no room for another execution, in time; it goes on."""


class RayCgraphCapacityExceeded(RaySystemError):
    """A compiled graph has reached its limit of executions whose results were not taken; take some first."""


class WorkerCrashedError(RayError):
    """The worker of a task ended before the task did, more often than its retries allow."""


class OutOfMemoryError(RayError):
    """Memory ran short, and the daemon ended the worker of the task before the kernel chose a process; the
    text says which process used how much, and names the limit.

    Args:
        message: the text.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class TaskCancelledError(RayError):
    """The task or call was cancelled: see ``skate.cancel``.

    Args:
        task_id: hex id of the task.
        error_message: what was cancelled, when and where.
    """

    def __init__(self, task_id: str | None = None, error_message: str | None = None) -> None:
        super().__init__(task_id, error_message)
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        return self.error_message or f"task {self.task_id or '(unknown)'} was cancelled"


class TaskKilledError(TaskCancelledError, WorkerCrashedError):
    """The task was cancelled with ``force=True``; Ray raises WorkerCrashedError then."""


class PendingCallsLimitExceeded(RayError):
    """The handle has as many unfinished calls as the actor's ``max_pending_calls`` allows."""


class DeadlockError(RayError):
    """Calls wait for each other in a circle, so that none can ever go on; the text names them all."""


class RayActorError(RayError):
    """A call of an actor could not be carried out.

    Args:
        actor_id: hex id of the actor.
        error_msg: what happened.
        actor_init_failed: whether the constructor raised.
        preempted: whether the node was taken away.
    """

    BASE_ERROR_MSG = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = BASE_ERROR_MSG,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(actor_id, error_msg, actor_init_failed, preempted)
        self.actor_id = actor_id
        self.error_msg = error_msg
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted

    def __str__(self) -> str:
        return self.error_msg


class ActorDiedError(RayActorError):
    """The actor is dead and will not restart: its process ended, it was killed, or its constructor raised.

    Args:
        cause: what happened, or the error of the constructor.
    """

    BASE_ERROR_MSG = "The actor died unexpectedly before finishing this task."

    def __init__(self, cause: str | RayTaskError | None = None, actor_id: str | None = None) -> None:
        if isinstance(cause, RayTaskError):
            message = f"The actor died because of an error raised in its creation task: {cause}"
            super().__init__(actor_id or cause.actor_id, message, actor_init_failed=True)
        else:
            super().__init__(actor_id, cause or self.BASE_ERROR_MSG)
        self.cause = cause
        self.args = (cause, actor_id)

    @classmethod
    def from_task_error(cls, task_error: RayTaskError) -> ActorDiedError:
        """Return the error for callers of an actor whose constructor raised ``task_error``."""
        return cls(task_error)


class ActorUnavailableError(RayActorError):
    """The actor is restarting, and the runtime does not know whether this call was carried out. Later calls
    may work.

    Args:
        error_message: what happened.
        actor_id: hex id of the actor.
    """

    def __init__(self, error_message: str, actor_id: str | None) -> None:
        super().__init__(actor_id, error_message)
        self.args = (error_message, actor_id)


class GetTimeoutError(RayError, TimeoutError):
    """``get`` with a timeout found the value not ready in time; the task goes on."""


class ObjectLostError(RayError):
    """The value of an object was lost and could not be made again.

    Args:
        object_ref_hex: the object.
        owner_address: the process that owned it.
        call_site: what happened, and where the object came from.
    """

    def __init__(self, object_ref_hex: str, owner_address: str | None, call_site: str | None) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site

    def __str__(self) -> str:
        why = self.call_site or "no copy of it is left"
        return f"Failed to retrieve object {self.object_ref_hex}, which is lost: {why}"


class OwnerDiedError(ObjectLostError):
    """The process that owned the object ended, and the object with it."""

    def __str__(self) -> str:
        return (
            f"Failed to retrieve object {self.object_ref_hex}. The object's owner has exited: process "
            f"{self.owner_address} ended: {self.call_site}. The caller of .remote() or put() owns "
            "the result: create a value that must outlive a worker in the driver or in an actor that stays."
        )


class ObjectFreedError(ObjectLostError):
    """The object was freed on purpose while refs to it were left."""


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be brought here from another node in time."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost, and the tasks that would make it again cannot be run.

    Args:
        object_ref_hex: the object.
        reason: why they cannot be run, as a short name.
        reason_message: the same in words.
        owner_address: the process that owned it.
        call_site: where the object came from.
    """

    #: The meaning of each short name.
    REASON_MESSAGES: ClassVar[dict[str, str]] = {
        "OBJECT_UNRECONSTRUCTABLE": "the tasks that make it ran again and failed",
        "OBJECT_UNRECONSTRUCTABLE_MAX_ATTEMPTS_EXCEEDED": "no retries are left, or an argument was lost",
        "OBJECT_UNRECONSTRUCTABLE_LINEAGE_EVICTED": "its lineage was too large and was dropped",
        "OBJECT_UNRECONSTRUCTABLE_TASK_CANCELLED": "the task that makes it was cancelled",
    }

    def __init__(
        self,
        object_ref_hex: str,
        reason: str | None = None,
        reason_message: str | None = None,
        owner_address: str | None = None,
        call_site: str = "",
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.args = (object_ref_hex, reason, reason_message, owner_address, call_site)
        self.reason = reason
        self.reason_message = reason_message

    def __str__(self) -> str:
        why = self.reason_message or self.reason or "the tasks that made it cannot be run again"
        return f"object {self.object_ref_hex} is lost, and cannot be made again: {why}"


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was freed although a reference to it arrived later: a bug in the runtime; report it."""


class ObjectStoreFullError(RayError):
    """Shared memory is full and nothing in it can make room; the text names the largest holders."""


class TaskUnschedulableError(RayError):
    """The task cannot be placed.

    Args:
        error_message: why, and what to change.
    """

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"the task cannot be placed: {self.error_message}"


class RuntimeEnvSetupError(RayError):
    """The ``runtime_env`` of a task or actor could not be prepared, so that it was never started.

    Args:
        error_message: what failed, with the end of the tool's output, and where the rest is.
    """

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"the runtime environment could not be set up: {self.error_message or 'the reason is unknown'}"


class ActorUnschedulableError(RayError):
    """The actor cannot be placed.

    Args:
        error_message: why, and what to change.
    """

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"the actor cannot be placed: {self.error_message}"


class ActorAlreadyExistsError(ValueError, RayError):
    """An actor with this name lives in this namespace already.

    Args:
        error_message: which, and what to do.
    """

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message


class ActorHandleNotFoundError(ValueError, RayError):
    """The handle names an actor that this cluster does not know, such as one of an earlier session.

    Args:
        error_message: which, and what to do.
    """

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message


# ---------------------------------------------------------------------- for ``except`` clauses
# Programs written for Ray name these classes. The runtime raises none of them as long as it lacks the feature
# that they belong to, such as several nodes or placement groups.


class _WithMessage(RayError):
    """Keeps its text as an attribute.

    Args:
        message: what happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NodeDiedError(_WithMessage):
    """The node of the task or actor died."""


class AuthenticationError(_WithMessage):
    """The cluster does not accept the credentials of the process that asked."""


class OutOfDiskError(RayError):
    """The disk of a node is full."""


class AsyncioActorExit(RayError):
    """Ends an async actor from inside in Ray; in skate, ``exit_actor()`` does that."""


class TaskPlacementGroupRemoved(WorkerCrashedError):
    """The placement group in which the task ran, or was to run, was removed. Ray raises WorkerCrashedError if
    it ran and has no retries."""


class ActorPlacementGroupRemoved(ActorDiedError):
    """The placement group in which the actor ran, or was to run, was removed. Ray raises ActorDiedError if it
    ran."""


class RpcError(_WithMessage):
    """A process of the cluster did not answer.

    Args:
        message: what happened.
        rpc_code: a number for the failure, if there is one.
    """

    def __init__(self, message: str, rpc_code: int | None = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.rpc_code)


class CrossLanguageError(RayError):
    """Code in another language raised; skate runs Python only."""


class PlasmaObjectNotAvailable(RayError):
    """The value is not in shared memory at the moment."""


class ObjectRefStreamEndOfStreamError(RayError):
    """A generator has no more items; in skate, iterators raise StopIteration."""


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A generator that ran again yielded something else than before."""


class OufOfBandObjectRefSerializationException(RayError):
    """A ref was pickled where the runtime cannot see it, and
    RAY_allow_out_of_band_object_ref_serialization=0 forbids that."""


class RayDirectTransportError(RaySystemError):
    """A value could not be moved between devices directly."""


for _class in list(globals().values()):
    # The module under which users find the classes, and which tracebacks show.
    if isinstance(_class, type) and issubclass(_class, RayError) and not _class.__name__.startswith("_"):
        _class.__module__ = MODULE
