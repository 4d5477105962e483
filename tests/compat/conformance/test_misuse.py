"""What programs do wrong, and the error that tells them: its type, and the phrase that programs match on."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    OwnerDiedError,
    PendingCallsLimitExceeded,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from compat.conformance.helpers import Gate, differs, needs_processes, until

#: A test may use names that the types forbid.
anything: Any = ray


@ray.remote
def function(a, b=1):
    return a


@ray.remote
def pair():
    return 1, 2


class Plain:
    def __init__(self, value=0):
        self.value = value

    def get(self, add=0):
        return self.value + add

    def wait(self, inside):
        return ray.get(inside[0].wait.remote())

    def pair(self):
        return 1, 2

    def crash(self):
        os._exit(7)

    def leave(self):
        sys.exit(0)

    def raises(self):
        raise ValueError("of a method")


Actor = ray.remote(Plain)


@ray.remote
class Broken:
    def __init__(self):
        raise ValueError("of a constructor")

    def get(self):
        return 1


class Case(NamedTuple):
    """One thing done wrong."""

    name: str
    call: Callable[[], Any]
    error: type[Exception] | tuple[type[Exception], ...]
    phrase: str


# ---------------------------------------------------------------------- what is checked where it is written

OPTIONS = [
    Case("unknown option", lambda: function.options(foo=1), ValueError, "Invalid option keyword foo for remote functions"),
    Case("actor's option", lambda: function.options(max_restarts=1), ValueError, "Invalid option keyword max_restarts"),
    Case("task's option", lambda: Actor.options(max_retries=1), ValueError, "Invalid option keyword max_retries for actors"),
    Case("negative num_cpus", lambda: function.options(num_cpus=-1), ValueError, "quantity of resource num_cpus cannot be negative"),
    Case("negative num_gpus", lambda: function.options(num_gpus=-1), ValueError, "quantity of resource num_gpus cannot be negative"),
    Case("negative memory", lambda: function.options(memory=-1), ValueError, "quantity of resource memory cannot be negative"),
    Case("negative custom", lambda: function.options(resources={"x": -1}), ValueError, "quantity of resource x cannot be negative"),
    Case("negative of an actor", lambda: Actor.options(num_cpus=-1), ValueError, "quantity of resource num_cpus cannot be negative"),
    Case("text as num_cpus", lambda: function.options(num_cpus="1"), TypeError, "The type of keyword 'num_cpus' must be"),
    Case("part of two GPUs", lambda: function.options(num_gpus=1.5).remote(1), ValueError, "The specified quantity 1.5 is invalid"),
    Case("CPU in resources", lambda: function.options(resources={"CPU": 1}), ValueError, "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU'"),
    Case("memory in resources", lambda: function.options(resources={"memory": 1}).remote(1), ValueError, "resources dictionary must not contain the key 'memory'"),
    Case("list as resources", lambda: function.options(resources=[1]), TypeError, "The type of keyword 'resources' must be"),
    Case("negative num_returns", lambda: function.options(num_returns=-1), ValueError, "'num_returns' only accepts None, a non-negative integer"),
    Case("half a return", lambda: function.options(num_returns=1.5), TypeError, "The type of keyword 'num_returns' must be"),
    Case("negative max_retries", lambda: function.options(max_retries=-2), ValueError, "'max_retries' only accepts None, 0, -1 or a positive integer, where -1 represents infinity"),
    Case("half a retry", lambda: function.options(max_retries=1.5), TypeError, "The type of keyword 'max_retries' must be"),
    Case("negative max_calls", lambda: ray.remote(max_calls=-1)(lambda: 1), ValueError, "'max_calls' only accepts None, 0 or a positive integer"),
    Case("negative max_restarts", lambda: Actor.options(max_restarts=-2), ValueError, "'max_restarts' only accepts None, 0, -1 or a positive integer"),
    Case("negative max_task_retries", lambda: Actor.options(max_task_retries=-2), ValueError, "'max_task_retries' only accepts None, 0, -1 or"),
    Case("number as name", lambda: function.options(name=3), TypeError, "The type of keyword 'name' must be"),
    Case("empty name of an actor", lambda: Actor.options(name="").remote(), ValueError, "Actor name cannot be an empty string"),
    Case("number as an actor's name", lambda: Actor.options(name=1).remote(), TypeError, "The type of keyword 'name' must be"),
    Case("empty namespace", lambda: Actor.options(name="q", namespace="").remote(), ValueError, '"" is not a valid namespace. Pass None to not specify a namespace.'),
    Case("number as namespace", lambda: Actor.options(name="q", namespace=4).remote(), TypeError, "The type of keyword 'namespace' must be"),
    Case("no exception types", lambda: function.options(retry_exceptions=[int]), ValueError, "retry_exceptions must be either a boolean or a list of exceptions"),
    Case("text as retry_exceptions", lambda: function.options(retry_exceptions="x"), TypeError, "The type of keyword 'retry_exceptions' must be"),
    Case("unknown strategy", lambda: function.options(scheduling_strategy="FOO").remote(1), ValueError, "Invalid scheduling_strategy value"),
    Case("unknown lifetime", lambda: Actor.options(lifetime="x").remote(), ValueError, "actor `lifetime` argument must be one of 'detached', 'non_detached' and 'None'"),
    Case("groups as a number", lambda: ray.remote(concurrency_groups=5)(Plain).remote(), TypeError, "The type of keyword 'concurrency_groups' must be"),
    Case("no items ahead", lambda: function.options(_generator_backpressure_num_objects=0), ValueError, "_generator_backpressure_num_objects=0 is not allowed. Use a value > 0"),
    Case("selector without value", lambda: function.options(label_selector={"a": "in()"}), ValueError, "Invalid label selector value `in()`"),
    Case("number as accelerator", lambda: function.options(accelerator_type=5), TypeError, "The type of keyword 'accelerator_type' must be"),
    Case("numbers as variables", lambda: function.options(runtime_env={"env_vars": {"A": 1}}).remote(1), TypeError, "must be of type Dict[str, str]"),
    Case("number as pip", lambda: function.options(runtime_env={"pip": 5}).remote(1), TypeError, "must be of type str or List[str]"),
    Case("no folder", lambda: function.options(runtime_env={"working_dir": "/no/such"}).remote(1), ValueError, "/no/such is not a valid path"),
    Case("async function", lambda: ray.remote(_coroutine), ValueError, "'async def' should not be used for remote tasks"),
    Case("nothing made remote", lambda: anything.remote(), (TypeError, AssertionError), "The @ray.remote decorator must be applied"),
    Case("number as a method", lambda: anything.method(1), (TypeError, AssertionError), "The @ray.method decorator must be applied using no arguments or"),
    Case("get_if_exists without name", lambda: Actor.options(get_if_exists=True).remote(), ValueError, "The actor name must be specified to use `get_if_exists`"),
]  # fmt: skip


async def _coroutine():
    pass


CALLS = [
    Case("function called directly", lambda: function(1), TypeError, "Remote functions cannot be called directly"),
    Case("argument missing", lambda: function.remote(), TypeError, "missing a required argument: 'a'"),
    Case("too many arguments", lambda: function.remote(1, 2, 3), TypeError, "too many positional arguments"),
    Case("unknown argument", lambda: function.remote(1, c=3), TypeError, "got an unexpected keyword argument 'c'"),
    Case("argument twice", lambda: function.remote(1, a=3), TypeError, "multiple values for argument 'a'"),
    Case("lock as an argument", lambda: function.remote(threading.Lock()), TypeError, "Could not serialize the argument"),
    Case("lock in a closure", lambda: _with_lock().remote(), TypeError, "Could not serialize the function"),
    Case("lock put", lambda: ray.put(threading.Lock()), TypeError, "Could not serialize the put value"),
    Case("constructor's arguments", lambda: Actor.remote(1, 2, 3), TypeError, "too many positional arguments"),
    Case("constructor's keyword", lambda: Actor.remote(zz=1), TypeError, "got an unexpected keyword argument 'zz'"),
    Case("method called directly", lambda: Actor.remote().get(), TypeError, "Actor methods cannot be called directly"),
    Case("no such method", lambda: Actor.remote().nope.remote(), AttributeError, "'ActorHandle' object has no attribute 'nope'"),
    Case("method's arguments", lambda: Actor.remote().get.remote(1, 2, 3), TypeError, "too many positional arguments"),
    Case("method's keyword", lambda: Actor.remote().get.remote(y=3), TypeError, "got an unexpected keyword argument 'y'"),
    Case("method's options", lambda: Actor.remote().get.options(num_cpus=1).remote(), TypeError, "got an unexpected keyword argument 'num_cpus'"),
    Case("get of a number", lambda: anything.get(5), ValueError, "Invalid type of object refs, <class 'int'>, is given"),
    Case("get of None", lambda: anything.get(None), ValueError, "Invalid type of object refs"),
    Case("get of numbers", lambda: anything.get([1]), TypeError, "Attempting to call `get` on the value 1, which is not an ray.ObjectRef"),
    Case("put of a ref", lambda: ray.put(ray.put(1)), TypeError, "Calling 'put' on an ray.ObjectRef is not allowed"),
    Case("wait for one", lambda: anything.wait(ray.put(1)), TypeError, "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got a single"),
    Case("wait for numbers", lambda: anything.wait([1]), TypeError, "got list containing <class 'int'>"),
    Case("wait for a set", lambda: anything.wait({ray.put(1)}), TypeError, "wait() expected a list of ray.ObjectRef"),
    Case("wait for none", lambda: ray.wait([ray.put(1)], num_returns=0), ValueError, "Invalid number of objects to return 0"),
    Case("wait for too many", lambda: ray.wait([ray.put(1)], num_returns=2), ValueError, "num_returns cannot be greater than the number of ray_waitables provided to ray.wait"),
    Case("wait for one twice", lambda: ray.wait([ray.put(1)] * 2), ValueError, "Wait requires a list of unique"),
    Case("wait for less than no time", lambda: ray.wait([ray.put(1)], timeout=-1), ValueError, "The 'timeout' argument must be nonnegative"),
    Case("kill a number", lambda: anything.kill(5), ValueError, "ray.kill() only supported for actors"),
    Case("kill a ref", lambda: anything.kill(ray.put(1)), ValueError, "For tasks, try ray.cancel()"),
    Case("kill a class", lambda: anything.kill(Actor), ValueError, "ray.kill() only supported for actors"),
    Case("cancel a number", lambda: anything.cancel(5), TypeError, "ray.cancel() only supported for object refs"),
    Case("actor that nobody named", lambda: ray.get_actor("nobody"), ValueError, "Failed to look up actor with name 'nobody'"),
    Case("actor of another namespace", lambda: ray.get_actor("nobody", namespace="other"), ValueError, "Failed to look up actor with name"),
    Case("actor without a name", lambda: ray.get_actor(""), ValueError, "Please supply a non-empty value to get_actor"),
    Case("number as an actor", lambda: anything.get_actor(3), TypeError, ""),
    Case("actor of no namespace", lambda: ray.get_actor("x", namespace=""), ValueError, "is not a valid namespace"),
    Case("actor of a number", lambda: anything.get_actor("x", namespace=3), TypeError, "namespace must be None or a string"),
    Case("connected twice", lambda: ray.init(), RuntimeError, "Maybe you called ray.init twice by accident?"),
    Case("short id", lambda: ray.ObjectRef(b"1"), ValueError, "ID string needs to have length"),
    Case("text as an id", lambda: anything.ObjectRef("x"), TypeError, "Unsupported type: <class 'str'>, expected bytes"),
    Case("items of a ref", lambda: list(anything.put([1])), TypeError, "not iterable"),
    Case("an item of a ref", lambda: anything.put([1])[0], TypeError, "not subscriptable"),
    Case("sum of a ref", lambda: anything.put(1) + 1, TypeError, "unsupported operand"),
    Case("actor in a driver", lambda: ray.get_runtime_context().current_actor, RuntimeError, "This method is only available in an actor"),
    Case("cancelled in a driver", lambda: ray.get_runtime_context().is_canceled(), RuntimeError, "This method is only available when the process is a worker"),
]  # fmt: skip


def _with_lock() -> Any:
    lock = threading.Lock()

    @ray.remote
    def locked():
        return lock

    return locked


@pytest.mark.parametrize("case", [*OPTIONS, *CALLS], ids=lambda case: case.name)
@pytest.mark.usefixtures("session")
def test_what_is_refused_at_once(case: Case) -> None:
    with pytest.raises(case.error) as raised:
        case.call()
    assert case.phrase in str(raised.value)


# ---------------------------------------------------------------------- what get raises


def _killed() -> Any:
    gate = Gate.remote()
    actor = Actor.remote()
    waiting = actor.wait.remote([gate])
    ray.get(gate.until_arrived.remote())
    ray.kill(actor)
    return ray.get(waiting)


def _killed_to_restart() -> Any:
    gate = Gate.remote()
    actor = Actor.options(max_restarts=1).remote()
    waiting = actor.wait.remote([gate])
    ray.get(gate.until_arrived.remote())
    ray.kill(actor, no_restart=False)
    return ray.get(waiting)


def _too_many() -> Any:
    gate = Gate.remote()
    actor = Actor.options(max_pending_calls=1).remote()
    waiting = actor.wait.remote([gate])
    try:
        return actor.get.remote()
    finally:
        ray.get([gate.open.remote(), waiting])


def _name_taken() -> Any:
    first = Actor.options(name="of the first").remote()
    ray.get(first.get.remote())
    return Actor.options(name="of the first").remote()


def _too_late() -> Any:
    gate = Gate.remote()
    waiting = gate.wait.remote()
    try:
        return ray.get(waiting, timeout=0.05)
    finally:
        ray.get(gate.open.remote())


def _forced_cancel() -> Any:
    gate = Gate.remote()
    waiting = gate.wait.remote()
    try:
        return ray.cancel(waiting, force=True)
    finally:
        ray.get(gate.open.remote())


def _cancelled_in_a_task() -> Any:
    gate = Gate.remote()

    @ray.remote
    def waits(inside):
        ray.get(inside[0].wait.remote())

    waiting = waits.remote([gate])
    ray.get(gate.until_arrived.remote())
    ray.cancel(waiting, recursive=False)
    return ray.get(waiting)


def _handles_gone() -> Any:
    named = Actor.options(name="nobody's").remote()
    ray.get(named.get.remote())
    weak = ray.get_actor("nobody's")
    del named

    def asks() -> bool:
        try:
            ray.get(weak.get.remote())
        except RayActorError:
            return True
        return False

    until(asks)
    return ray.get(weak.get.remote())


def _unpicklable_result() -> Any:
    @ray.remote
    def lock():
        return threading.Lock()

    return ray.get(lock.remote())


def _worker_exits() -> Any:
    @ray.remote(max_retries=0)
    def ends():
        os._exit(3)

    return ray.get(ends.remote())


RESULTS = [
    Case("task that raises", lambda: ray.get(ray.remote(_raises).remote()), (RayTaskError,), "of a task"),
    Case("fewer values", lambda: ray.get(pair.options(num_returns=3).remote()), (RayTaskError,), "Task returned 2 objects, but num_returns=3."),
    Case("fewer values of a method", lambda: ray.get(Actor.remote().pair.options(num_returns=3).remote()), ValueError, "Task returned 2 objects, but num_returns=3."),
    Case("lock as a result", _unpicklable_result, TypeError, "cannot pickle"),
    Case("too late", _too_late, GetTimeoutError, "Get timed out: some object(s) not ready."),
    Case("killed", _killed, ActorDiedError, "it was killed by `ray.kill`"),
    Case("killed, unexpectedly", _killed, ActorDiedError, "The actor died unexpectedly before finishing this task"),
    Case("constructor that raises", lambda: ray.get(Broken.remote().get.remote()), ActorDiedError, "The actor died because of an error raised in its creation task"),
    Case("method that raises", lambda: ray.get(Actor.remote().raises.remote()), ValueError, "of a method"),
    Case("forced cancel of a method", _forced_cancel, ValueError, "force=True is not supported for actor tasks"),
    Case("too many calls", _too_many, PendingCallsLimitExceeded, "This limit can be adjusted with the `max_pending_calls` actor option"),
    Case("name taken", _name_taken, ValueError, "is already taken"),
    Case("actor left", lambda: ray.get(Actor.remote().leave.remote()), ActorDiedError, "The actor died unexpectedly before finishing this task"),
    Case("handles gone", _handles_gone, ActorDiedError, "all references to the actor were removed"),
]  # fmt: skip


def _raises():
    raise ValueError("of a task")


@pytest.mark.parametrize("case", RESULTS, ids=lambda case: case.name)
@pytest.mark.usefixtures("session")
def test_what_is_raised_later(case: Case) -> None:
    with pytest.raises(case.error) as raised:
        case.call()
    assert case.phrase in str(raised.value)


PROCESSES = [
    Case("worker that exits", _worker_exits, WorkerCrashedError, "The worker died unexpectedly while executing this task"),
    Case("actor that exits", lambda: ray.get(Actor.remote().crash.remote()), ActorDiedError, "The actor died unexpectedly before finishing this task"),
    Case("actor that comes back", lambda: ray.get(Actor.options(max_restarts=1).remote().crash.remote()), ActorUnavailableError, "The actor is temporarily unavailable"),
    Case("killed to come back", _killed_to_restart, ActorUnavailableError, "The actor is temporarily unavailable"),
    Case("cancelled", _cancelled_in_a_task, TaskCancelledError, "was cancelled"),
]  # fmt: skip


@pytest.mark.parametrize("case", PROCESSES, ids=lambda case: case.name)
@pytest.mark.usefixtures("session")
@needs_processes(reason="it ends processes")
def test_what_is_told_of_processes(case: Case) -> None:
    with pytest.raises(case.error) as raised:
        case.call()
    assert case.phrase in str(raised.value)


@differs(
    on="ray",
    before="2.60",
    reason="Ray 2.50 gives a value whose owner has ended as long as the machine's store has it.",
)
@pytest.mark.usefixtures("session")
@needs_processes(reason="an owner is a process")
def test_what_is_told_of_an_owner_that_is_gone() -> None:
    @ray.remote
    class Owner:
        def make(self):
            return os.getpid(), ray.put(1)

    owner = Owner.remote()
    pid, ref = ray.get(owner.make.remote())
    ray.kill(owner)
    until(lambda: not os.path.exists(f"/proc/{pid}"))

    def told() -> str:
        try:
            ray.get(ref)  # what is in the store already may be there for a while
        except OwnerDiedError as error:
            return str(error)
        return ""

    text = until(told)
    assert "The object's owner has exited" in text
    assert "Failed to retrieve object" in text


# ---------------------------------------------------------------------- large code


@pytest.mark.usefixtures("session")
def test_a_function_may_not_be_too_large() -> None:
    large = bytes(100_000_001)

    @ray.remote
    def uses():
        return len(large)

    says = r"The remote function .*uses is too large \(95 MiB > FUNCTION_SIZE_ERROR_THRESHOLD=95 MiB\)"
    with pytest.raises(ValueError, match=says):
        uses.remote()


@pytest.mark.usefixtures("session")
def test_an_actor_class_may_not_be_too_large() -> None:
    large = bytes(100_000_001)

    @ray.remote
    class Uses:
        def size(self):
            return len(large)

    with pytest.raises(ValueError, match=r"The actor Uses is too large .*implicitly capturing a large"):
        Uses.remote()


# ---------------------------------------------------------------------- without a session


def test_refs_without_a_session(no_session: None) -> None:
    ref = ray.ObjectRef.nil()
    assert ref.is_nil()
    assert repr(ref) == f"ObjectRef({'f' * 2 * len(ref.binary())})"
    other = ray.ObjectRef(b"\1" * len(ref.binary()))
    again = pickle.loads(pickle.dumps([ref, other, other]))
    assert again == [ref, other, other]
    assert again[1].hex() == "01" * len(ref.binary())
    assert len({*again, ref, other}) == 2
    assert not ray.is_initialized()


def test_the_state_of_no_session(no_session: None) -> None:
    for asks in (ray.nodes, ray.cluster_resources, ray.available_resources):
        with pytest.raises(ray.exceptions.RaySystemError, match="Ray has not been started yet"):
            asks()


@pytest.mark.parametrize(
    ("arguments", "error", "phrase"),
    [
        ({"num_cpu": 1}, RuntimeError, "Unknown keyword argument(s): num_cpu"),
        ({"num_cpus": -1}, ValueError, "Resource quantities must be nonnegative"),
        ({"namespace": 3}, TypeError, "namespace must be None or a string"),
        ({"namespace": ""}, ValueError, '"" is not a valid namespace. Pass None to not specify a namespace.'),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_of_init(
    no_session: None, arguments: dict[str, Any], error: type[Exception], phrase: str
) -> None:
    with pytest.raises(error) as raised:
        anything.init(**arguments)
    assert phrase in str(raised.value)


def test_pickling_tells_what_is_wrong() -> None:
    assert pickle.loads(ray.cloudpickle.dumps_debug([1])) == [1]
    with pytest.raises(TypeError, match=r"cloudpickle.dumps\(.*lock.*\) failed"):
        ray.cloudpickle.dumps_debug([threading.Lock()])
