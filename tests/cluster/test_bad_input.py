"""Bad input: a clear error that says what to do, at once, and the runtime goes on unharmed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import skate
from skate.api import RayContext as Session
from skate.exceptions import RayError

#: A test may use names that the types forbid.
anything: Any = skate


@skate.remote
def square(x: int) -> int:
    return x * x


@skate.remote
class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def add(self, n: int = 1) -> int:
        self.value += n
        return self.value

    def subtract(self, n: int) -> int:
        return self.add(-n)


@pytest.fixture
def unharmed(session: Session) -> Iterator[None]:
    """The runtime works before the test and after it."""
    counter = Counter.remote()
    assert skate.get([square.remote(3), counter.add.remote()]) == [9, 1]
    yield
    assert skate.get([square.remote(4), counter.add.remote()]) == [16, 2]


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"num_cpus": "two"}, TypeError, "type of keyword 'num_cpus' must be a number.*'two'"),
        ({"num_cpus": True}, TypeError, "num_cpus"),
        ({"num_cpus": -1}, ValueError, "quantity of resource num_cpus cannot be negative.*-1"),
        ({"num_cpus": float("nan")}, ValueError, "num_cpus"),
        ({"num_cpus": float("inf")}, ValueError, "num_cpus"),
        ({"num_cpus": 0.00001}, ValueError, "0.0001"),
        ({"num_gpus": -0.5}, ValueError, "num_gpus"),
        ({"num_gpus": [1]}, TypeError, "num_gpus"),
        ({"memory": -1}, ValueError, "memory"),
        ({"memory": "1GB"}, TypeError, "memory"),
        ({"resources": ["license"]}, TypeError, "resources.*dict"),
        ({"resources": {"license": -1}}, ValueError, "license"),
        ({"resources": {"license": "one"}}, TypeError, "license"),
        ({"resources": {1: 1}}, TypeError, "keys are names"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": {"GPU": 1}}, ValueError, "num_gpus"),
        ({"num_gpus": 1.5}, ValueError, "num_gpus.*share of one GPU"),
        ({"accelerator_type": 5}, TypeError, "accelerator_type.*string"),
        ({"name": 5}, TypeError, "name.*string"),
        ({"num_cpu": 1}, ValueError, "Invalid option keyword num_cpu .*num_cpus"),
        ({"runtime_env": {"pip": ["x"], "uv": ["x"]}}, ValueError, "option 'runtime_env'.*both"),
        ({"runtime_env": {"conda": "x"}}, ValueError, "conda.*not supported.*'pip'"),
        ({"runtime_env": "x"}, TypeError, "option 'runtime_env' must be a dict"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_options_of_tasks_and_actors(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        anything.remote(**options)(lambda: None)
    with pytest.raises(error, match=says):
        square.options(**options)
    with pytest.raises(error, match=says):
        Counter.options(**options)
    assert not skate.is_initialized()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"num_returns": -1}, ValueError, "num_returns"),
        ({"num_returns": 1.5}, TypeError, "num_returns.*whole number"),
        ({"num_returns": "all"}, ValueError, "num_returns.*'streaming'"),
        ({"max_calls": -1}, ValueError, "max_calls.*only accepts None, 0 or a positive"),
        ({"num_returns": 100_000}, ValueError, "num_returns.*at most"),
        ({"max_retries": -2}, ValueError, "max_retries.*only accepts None, 0, -1 or"),
        ({"max_retries": "3"}, TypeError, "max_retries"),
        ({"max_restarts": 1}, ValueError, "Invalid option keyword max_restarts for remote functions"),
        ({"retry_exceptions": "all"}, TypeError, "retry_exceptions.*list of exception types"),
        ({"retry_exceptions": [5]}, ValueError, "retry_exceptions.*5.*no exception type"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_options_of_tasks(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        square.options(**options)
    assert not skate.is_initialized()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_restarts": -2}, ValueError, "max_restarts.*only accepts None, 0, -1 or"),
        ({"max_restarts": 1.0}, TypeError, "max_restarts"),
        ({"max_task_retries": "x"}, TypeError, "max_task_retries"),
        ({"namespace": 3}, TypeError, "namespace"),
        ({"get_if_exists": "yes"}, TypeError, "get_if_exists.*True or False"),
        ({"max_retries": 3}, ValueError, "Invalid option keyword max_retries for actors"),
        ({"num_returns": 2}, ValueError, "Invalid option keyword num_returns for actors"),
        ({"lifetime": "for ever"}, ValueError, "lifetime.*'detached'"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_options_of_actors(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Counter.options(**options)
    assert not skate.is_initialized()


def test_options_of_methods(unharmed: None) -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError, match="an actor method got an unexpected keyword argument 'num_cpus'"):
        counter.add.options(num_cpus=1)
    with pytest.raises(TypeError, match="num_returns"):
        counter.add.options(num_returns=2.5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_return'"):
        skate.method(num_return=1)
    with pytest.raises(TypeError, match="must be applied using no arguments or with options"):
        skate.method(5)


# ---------------------------------------------------------------------- what is made remote, and how it is called


def test_what_cannot_be_remote() -> None:
    with pytest.raises(TypeError, match="takes a function or a class|must be applied"):
        anything.remote(5)
    with pytest.raises(TypeError, match=r"@remote\(num_cpus=2\)"):
        anything.remote()
    with pytest.raises(TypeError, match="options by name"):
        anything.remote(square, 2)
    with pytest.raises(TypeError, match="already"):
        anything.remote(square)
    with pytest.raises(TypeError, match="already"):
        anything.remote(num_cpus=1)(Counter)

    async def coroutine() -> None:
        pass

    with pytest.raises(ValueError, match="coroutine is an async function"):
        skate.remote(coroutine)
    assert not skate.is_initialized()


def test_direct_calls(unharmed: None) -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError, match=r"cannot be called directly.*square\(\).*square\.remote"):
        anything_called(square)(3)
    with pytest.raises(
        TypeError, match=r"Counter is an actor class.*cannot be instantiated directly.*Counter\.remote"
    ):
        anything_called(Counter)()
    with pytest.raises(TypeError, match=r"cannot be called directly.*\.add\.remote"):
        counter.add()


def anything_called(function: Any) -> Any:
    """Return it without its type."""
    return function


def test_methods_that_do_not_exist(unharmed: None) -> None:
    counter = Counter.remote()
    with pytest.raises(AttributeError, match="no attribute 'sub'.*Counter has no such method.*add, subtract"):
        counter.sub.remote(1)
    with pytest.raises(AttributeError, match="no attribute 'value'.*through its methods"):
        counter.value  # noqa: B018
    assert not hasattr(counter, "__len__")
    with pytest.raises(AttributeError):
        counter._private  # noqa: B018


def test_arguments_that_do_not_fit(unharmed: None) -> None:
    counter = Counter.remote()
    for call in (
        lambda: anything_called(square).remote(),
        lambda: anything_called(square).remote(1, 2),
        lambda: anything_called(square).remote(y=1),
        lambda: counter.subtract.remote(),
        lambda: counter.add.remote(1, m=2),
    ):
        with pytest.raises(TypeError, match="argument"):
            call()
    with pytest.raises(
        TypeError, match=r"Counter.__init__\(\) got too many positional arguments.*most 1, got 3"
    ):
        Counter.remote(1, 2, 3)


# ---------------------------------------------------------------------- get, put, wait, kill


def test_get_of_what_is_no_ref(unharmed: None) -> None:
    ref = square.remote(2)
    for wrong in (5, None, "ref", {ref: 1}, {ref}, ref.hex(), Counter.remote(), iter([ref])):
        with pytest.raises(ValueError, match=r"get\(\) takes an ObjectRef or a list of them\. Invalid type"):
            anything.get(wrong)
    with pytest.raises(TypeError, match="on the value 5, .*element 1, int"):
        anything.get([ref, 5])
    with pytest.raises(TypeError, match="element 0, list.* Make one flat list"):
        anything.get([[ref]])
    for wrong, hint in (
        (Counter.remote(), "get what its methods return"),
        (square, "Call it first"),
        ("ref", r"given: 'ref'$"),
    ):
        with pytest.raises(ValueError, match=hint):
            anything.get(wrong)
    with pytest.raises(TypeError, match="Loop over it"):
        anything.get([square.options(num_returns="streaming").remote(2)])


def test_timeouts(unharmed: None) -> None:
    ref = square.remote(2)
    for wrong in ("1", [1], True):
        with pytest.raises(TypeError, match="timeout takes a number of seconds"):
            anything.get(ref, timeout=wrong)
        with pytest.raises(TypeError, match="timeout takes a number of seconds"):
            anything.wait([ref], timeout=wrong)
    for negative in (-1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="'timeout' argument must be nonnegative"):
            skate.get(ref, timeout=negative)
        with pytest.raises(ValueError, match="'timeout' argument must be nonnegative"):
            skate.wait([ref], timeout=negative)
    assert skate.get(ref, timeout=float("inf")) == 4
    late = skate.remote(time.sleep).remote(0.05)
    assert skate.wait([late], timeout=float("inf")) == ([late], [])
    assert skate.get(skate.remote(time.sleep).remote(0.05), timeout=1e15) is None


def test_put_of_a_ref(unharmed: None) -> None:
    with pytest.raises(TypeError, match="Calling 'put' on an ray.ObjectRef is not allowed"):
        skate.put(square.remote(1))


def test_wait_on_the_wrong(unharmed: None) -> None:
    ref, other = square.remote(1), square.remote(2)
    with pytest.raises(TypeError, match=r"wait\(\[ref\]\)"):
        anything.wait(ref)
    with pytest.raises(TypeError, match="list of ray.ObjectRef .*, got <class 'dict'>"):
        anything.wait({ref: 1})
    with pytest.raises(TypeError, match="list containing <class 'int'>"):
        anything.wait([ref, 5])
    with pytest.raises(ValueError, match="in it twice"):
        skate.wait([ref, other, ref])
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"Invalid number of objects to return {number}"):
            skate.wait([ref, other], num_returns=number)
    with pytest.raises(ValueError, match=r"num_returns cannot be greater than .*\(2\), got 3"):
        skate.wait([ref, other], num_returns=3)
    for wrong in ("1", 1.0, True):
        with pytest.raises(TypeError, match="num_returns"):
            anything.wait([ref, other], num_returns=wrong)


def test_kill_of_what_is_no_actor(unharmed: None) -> None:
    with pytest.raises(ValueError, match=r"kill\(\) only supported for actors.*cancel"):
        anything.kill(square.remote(1))
    for wrong in (5, "counter", Counter, square):
        with pytest.raises(ValueError, match=r"kill\(\) only supported for actors"):
            anything.kill(wrong)


def test_names_that_nobody_has(unharmed: None) -> None:
    with pytest.raises(ValueError, match="Failed to look up actor with name 'nobody'"):
        skate.get_actor("nobody")
    for wrong in ("", None):
        with pytest.raises(ValueError, match="supply a non-empty value to get_actor"):
            anything.get_actor(wrong)
    with pytest.raises(TypeError, match="takes a name as a string"):
        anything.get_actor(5)
    with pytest.raises(TypeError, match="namespace must be None or a string"):
        anything.get_actor("nobody", namespace=5)
    with pytest.raises(ValueError, match="is not a valid namespace"):
        skate.get_actor("nobody", namespace="")


def test_exit_actor_elsewhere(unharmed: None) -> None:
    with pytest.raises(TypeError, match="not an actor"):
        skate.actor.exit_actor()

    @skate.remote
    def leave() -> None:
        skate.actor.exit_actor()

    with pytest.raises(TypeError, match="not an actor"):
        skate.get(leave.remote())
    with pytest.raises(RuntimeError, match="only available in an actor"):
        skate.get_runtime_context().current_actor  # noqa: B018


# ---------------------------------------------------------------------- init


def test_init_twice(unharmed: None) -> None:
    with pytest.raises(RuntimeError, match="connected already.*ignore_reinit_error"):
        skate.init()
    again = skate.init(ignore_reinit_error=True)
    assert again["session_dir"] == skate.init(ignore_reinit_error=True)["session_dir"]

    @skate.remote
    def init_in_a_task() -> None:
        skate.init()

    with pytest.raises(RuntimeError, match="connected already"):
        skate.get(init_in_a_task.remote())


def test_an_address_that_nobody_answers(folder: str) -> None:
    for address in ("127.0.0.1:1", "auto", "/tmp/no/such/session"):
        with pytest.raises(ConnectionError, match=address):
            skate.init(address)
    with pytest.raises(TypeError, match="address"):
        anything.init(5)
    assert not skate.is_initialized()
    skate.init("local", num_cpus=1)
    assert skate.get(square.remote(2)) == 4


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"num_cpus": -1}, ValueError, "nonnegative: num_cpus is -1"),
        ({"object_store_memory": 10}, ValueError, r"bytes, at least 1048576 \(1 MiB\), got 10"),
        ({"num_cpus": "two"}, TypeError, "num_cpus takes a number"),
        ({"num_cpus": 1.5}, TypeError, "num_cpus"),
        ({"num_gpus": -1}, ValueError, "num_gpus"),
        ({"object_store_memory": -1}, ValueError, "object_store_memory"),
        ({"object_store_memory": "1GB"}, TypeError, "object_store_memory"),
        ({"resources": {"CPU": 1}}, ValueError, "use num_cpus"),
        ({"resources": {"license": -1}}, ValueError, "license"),
        ({"resources": {"license": "one"}}, TypeError, "license"),
        ({"resources": ["license"]}, TypeError, "resources"),
        ({"namespace": 5}, TypeError, "namespace"),
        ({"runtime_env": {"pop": ["x"]}}, ValueError, "no field 'pop'.*pip"),
        ({"runtime_env": {"pip": "no-such-file.txt"}}, ValueError, "pip.*requirements file"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "env_vars"),
        ({"num_cpu": 1}, RuntimeError, "num_cpu"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_arguments_of_init(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        anything.init(**arguments)
    assert not skate.is_initialized()


def test_unknown_system_config_is_ignored() -> None:
    skate.init(num_cpus=1, _system_config={"no_such_knob": 1, "gcs_rpc_server_reconnect_timeout_s": "x"})
    assert skate.get(square.remote(2)) == 4


def test_what_needs_a_session_says_so() -> None:
    for call in (skate.nodes, skate.cluster_resources, skate.available_resources):
        with pytest.raises(skate.exceptions.RaySystemError, match=r"not connected.*call init\(\) first"):
            call()
    assert not skate.is_initialized()
    skate.shutdown()


# ---------------------------------------------------------------------- leftovers of an earlier session


def test_refs_of_an_earlier_session() -> None:
    skate.init(num_cpus=1)
    small, large = square.remote(2), skate.put(bytes(300_000))
    unfinished = square.options(resources={"unicorn": 1}).remote(1)
    skate.get(small)
    skate.shutdown()
    skate.init(num_cpus=1)
    for ref in (large, unfinished):
        with pytest.raises(RayError, match="shut down|lost"):
            skate.get(ref)
        # As an argument: an error at once, or when the result is asked for; never a hang.
        with pytest.raises((RayError, ValueError)):
            skate.get(skate.remote(lambda value: value).remote(ref))
        with pytest.raises((RayError, ValueError)):
            skate.get(skate.remote(lambda refs: skate.get(refs)).remote([ref]))
    assert skate.get(square.remote(3)) == 9


def test_handles_of_an_earlier_session() -> None:
    skate.init(num_cpus=1)
    counter = Counter.remote()
    assert skate.get(counter.add.remote()) == 1
    skate.shutdown()
    skate.init(num_cpus=1)
    with pytest.raises((RayError, ValueError), match="earlier session"):
        skate.get(counter.add.remote())
    with pytest.raises(ValueError, match="earlier session"):
        skate.kill(counter)
    # What is decorated is of no session.
    assert skate.get([square.remote(3), Counter.remote().add.remote()]) == [9, 1]
