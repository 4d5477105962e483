"""Remote functions: calls, results, dependencies, ``get`` and ``wait``."""

from __future__ import annotations

import time

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from compat.conformance.helpers import Gate, Record, differs, never

pytestmark = pytest.mark.usefixtures("session")

FACTOR = 3


@ray.remote
def echo(value):
    return value


@ray.remote
def at_gate(gate, value):
    ray.get(gate.wait.remote())
    return value


# ---------------------------------------------------------------------- calls


def test_call_and_get() -> None:
    @ray.remote
    def add(a, b=10, *more, c=0, **named):
        return a + b + sum(more) + c + sum(named.values())

    assert ray.get(add.remote(1)) == 11
    assert ray.get(add.remote(1, 2, 3, 4, c=5, d=6)) == 21
    assert ray.get(add.remote(b=1, a=2)) == 3


def test_remote_returns_at_once() -> None:
    gate = Gate.remote()
    ref = at_gate.remote(gate, 1)
    assert ray.wait([ref], timeout=0) == ([], [ref])
    ray.get(gate.open.remote())
    assert ray.get(ref) == 1


def test_direct_call_is_refused() -> None:
    with pytest.raises(TypeError, match=r"echo\.remote"):
        echo(1)


def test_wrong_arguments_are_refused_at_the_call() -> None:
    @ray.remote
    def two(a, b):
        return a, b

    with pytest.raises(TypeError):
        two.remote(1)
    with pytest.raises(TypeError):
        two.remote(1, 2, 3)
    with pytest.raises(TypeError):
        two.remote(1, b=2, c=3)


@differs(on="ray", reason="a remote function shows the docstring of Ray's own class instead of its own")
def test_the_docstring_is_kept() -> None:
    @ray.remote
    def documented():
        """Says something."""

    assert documented.__doc__ == "Says something."


@differs(on="ray", reason="a remote function has no name of its own, only its class's")
def test_names_are_kept() -> None:
    @ray.remote
    def documented():
        pass

    assert documented.__name__ == "documented"
    assert documented.__module__ == __name__


def test_remote_as_a_function() -> None:
    def plain(x):
        return x + 1

    assert ray.get(ray.remote(plain).remote(1)) == 2
    assert ray.get(ray.remote(num_cpus=2)(plain).remote(1)) == 2
    assert plain(1) == 2


def test_lambda() -> None:
    assert ray.get(ray.remote(lambda x: x * 2).remote(21)) == 42


def test_remote_needs_a_function_or_class() -> None:
    for wrong in ((5,), (), ("f",)):
        with pytest.raises((TypeError, AssertionError)):
            ray.remote(*wrong)


def test_default_arguments_are_evaluated_once() -> None:
    base = [1, 2]

    @ray.remote
    def length(items=base):
        return len(items)

    assert ray.get(length.remote()) == 2


def test_arguments_are_copies() -> None:
    items = [1, 2]

    @ray.remote
    def change(given):
        given.append(3)
        return given

    assert ray.get(change.remote(items)) == [1, 2, 3]
    assert items == [1, 2]


# ---------------------------------------------------------------------- results


def test_none_is_a_result() -> None:
    assert ray.get(echo.remote(None)) is None


def test_num_returns() -> None:
    @ray.remote(num_returns=3)
    def three():
        return "a", "b", "c"

    first, second, third = three.remote()
    assert ray.get([third, second, first]) == ["c", "b", "a"]


def test_num_returns_takes_any_sequence() -> None:
    @ray.remote(num_returns=2)
    def two():
        return ["x", "y"]

    assert ray.get(two.remote()) == ["x", "y"]


def test_num_returns_one_keeps_the_tuple() -> None:
    @ray.remote(num_returns=1)
    def pair():
        return 1, 2

    assert ray.get(pair.remote()) == (1, 2)


def test_num_returns_zero() -> None:
    @ray.remote(num_returns=0)
    def nothing():
        return 5

    assert nothing.remote() is None


def test_num_returns_by_options() -> None:
    @ray.remote
    def pair():
        return 1, 2

    one, two = pair.options(num_returns=2).remote()
    assert ray.get(one) == 1
    assert ray.get(two) == 2
    assert ray.get(pair.remote()) == (1, 2)


@pytest.mark.parametrize("wrong", [(1,), (1, 2, 3), 5])
def test_wrong_number_of_returns_is_an_error(wrong) -> None:
    @ray.remote(num_returns=2)
    def two():
        return wrong

    for ref in two.remote():
        with pytest.raises(RayTaskError):
            ray.get(ref)


def test_an_exception_goes_to_all_returns() -> None:
    @ray.remote(num_returns=2)
    def broken():
        raise KeyError("k")

    for ref in broken.remote():
        with pytest.raises(KeyError):
            ray.get(ref)


# ---------------------------------------------------------------------- dependencies


def test_refs_as_arguments_are_replaced_by_values() -> None:
    @ray.remote
    def add(a, b):
        return a + b

    assert ray.get(add.remote(echo.remote(1), b=echo.remote(2))) == 3
    assert ray.get(add.remote(ray.put(1), add.remote(2, ray.put(3)))) == 6


def test_refs_inside_arguments_stay_refs() -> None:
    @ray.remote
    def kinds(items, mapping):
        return [type(x).__name__ for x in items], ray.get(mapping["a"])

    assert ray.get(kinds.remote([echo.remote(1), 2], {"a": echo.remote(5)})) == (["ObjectRef", "int"], 5)


def test_a_task_waits_for_its_arguments() -> None:
    gate, record = Gate.remote(), Record.remote()

    @ray.remote
    def note(value):
        ray.get(record.add.remote(value))

    end = note.remote(at_gate.remote(gate, "late"))
    assert ray.wait([end], timeout=0.05)[0] == []
    assert ray.get(record.all.remote()) == []
    ray.get(gate.open.remote())
    ray.get(end)
    assert ray.get(record.all.remote()) == ["late"]


def test_chain_and_diamond() -> None:
    @ray.remote
    def add(a, b):
        return a + b

    ref = echo.remote(1)
    for _ in range(20):
        ref = add.remote(ref, 1)
    assert ray.get(ref) == 21
    left, right = add.remote(ref, 1), add.remote(ref, 2)
    assert ray.get(add.remote(left, right)) == 45


def test_an_error_as_an_argument_fails_the_task() -> None:
    record = Record.remote()

    @ray.remote
    def broken():
        raise ValueError("upstream")

    @ray.remote
    def after(value):
        ray.get(record.add.remote(value))

    with pytest.raises(ValueError, match="upstream"):
        ray.get(after.remote(broken.remote()))
    with pytest.raises(ValueError, match="upstream"):
        ray.get(after.remote(after.remote(broken.remote())))
    assert ray.get(record.all.remote()) == []


def test_an_error_inside_an_argument_is_raised_by_get() -> None:
    @ray.remote
    def broken():
        raise ValueError("upstream")

    @ray.remote
    def handle(refs):
        try:
            ray.get(refs[0])
        except ValueError as error:
            return str(error).splitlines()[-1]
        return "nothing"

    assert ray.get(handle.remote([broken.remote()])).endswith("upstream")


# ---------------------------------------------------------------------- nested


def test_tasks_call_tasks() -> None:
    @ray.remote
    def outer(n):
        return sum(ray.get([echo.remote(i) for i in range(n)]))

    assert ray.get([outer.remote(3), outer.remote(4)]) == [3, 6]


def test_recursion_deeper_than_there_are_cpus() -> None:
    @ray.remote
    def down(n):
        return 0 if n == 0 else 1 + ray.get(down.remote(n - 1))

    assert ray.get(down.remote(8)) == 8


def test_a_task_returns_refs() -> None:
    @ray.remote
    def start(n):
        return [echo.remote(i) for i in range(n)], ray.put("x")

    refs, put = ray.get(start.remote(3))
    assert ray.get(refs) == [0, 1, 2]
    assert ray.get(put) == "x"


def test_a_returned_ref_is_not_followed() -> None:
    @ray.remote
    def indirect():
        return echo.remote(7)

    inner = ray.get(indirect.remote())
    assert isinstance(inner, ray.ObjectRef)
    assert ray.get(inner) == 7


# ---------------------------------------------------------------------- what functions refer to


def test_closures_and_globals() -> None:
    offset = 100

    def helper(x):
        return x * FACTOR

    @ray.remote
    def use(x):
        return helper(x) + offset

    assert ray.get(use.remote(2)) == 106


def test_a_closure_is_taken_at_the_first_call() -> None:
    value = 1

    @ray.remote
    def use():
        return value

    assert ray.get(use.remote()) == 1
    value = 2
    assert ray.get(use.remote()) == 1


def test_a_function_refers_to_another_remote_function_and_itself() -> None:
    @ray.remote
    def fact(n):
        return 1 if n <= 1 else n * ray.get(fact.remote(n - 1))

    @ray.remote
    def call(f, n):
        return ray.get(f.remote(n))

    assert ray.get(call.remote(fact, 5)) == 120


def test_redefinition() -> None:
    results = []
    for k in range(3):

        @ray.remote
        def f(k=k):
            return k

        results.append(ray.get(f.remote()))
    assert results == [0, 1, 2]


# ---------------------------------------------------------------------- get


def test_get_of_lists() -> None:
    refs = [echo.remote(i) for i in range(10)]
    assert ray.get(refs) == list(range(10))
    assert ray.get(refs[::-1]) == list(range(10))[::-1]
    assert ray.get([refs[1], refs[1]]) == [1, 1]
    assert ray.get([]) == []


def test_get_again() -> None:
    ref = echo.remote("x")
    assert ray.get(ref) == ray.get(ref) == "x"


@pytest.mark.parametrize("wrong", [5, "x", None, {"a": 1}, [1, 2], [[]]])
def test_get_of_something_else(wrong) -> None:
    with pytest.raises((TypeError, ValueError)):
        ray.get(wrong)


def test_get_raises_an_error_of_a_list() -> None:
    @ray.remote
    def broken(kind):
        raise kind("x")

    with pytest.raises(KeyError):
        ray.get([echo.remote(1), broken.remote(KeyError), echo.remote(2)])
    # The first that is there, whichever it is.
    with pytest.raises((KeyError, OSError)):
        ray.get([broken.remote(KeyError), broken.remote(OSError)])


def test_get_of_a_list_raises_before_all_are_there() -> None:
    @ray.remote
    def broken():
        raise KeyError("x")

    with pytest.raises(KeyError):
        ray.get([never(), broken.remote()])


def test_get_times_out() -> None:
    gate = Gate.remote()
    ref = at_gate.remote(gate, 5)
    began = time.monotonic()
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.1)
    assert time.monotonic() - began >= 0.1
    with pytest.raises(TimeoutError):
        ray.get([echo.remote(1), ref], timeout=0.05)
    ray.get(gate.open.remote())
    assert ray.get(ref, timeout=60) == 5


def test_get_with_timeout_zero() -> None:
    gate = Gate.remote()
    ref = at_gate.remote(gate, 5)
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0)
    ray.get(gate.open.remote())
    assert ray.get(ref) == 5
    assert ray.get(ref, timeout=0) == 5


# ---------------------------------------------------------------------- wait


def test_wait_returns_one_by_default() -> None:
    refs = [echo.remote(i) for i in range(4)]
    ray.get(refs)
    ready, rest = ray.wait(refs)
    assert len(ready) == 1
    assert rest == [ref for ref in refs if ref not in ready]


def test_wait_never_returns_more_than_asked_for() -> None:
    refs = [ray.put(i) for i in range(5)]
    for n in range(1, 6):
        ready, rest = ray.wait(refs, num_returns=n)
        assert len(ready) == n
        assert ready == [ref for ref in refs if ref in ready]
        assert rest == [ref for ref in refs if ref not in ready]


@differs(on="ray", reason="Ray takes any of the ready refs when more are ready than asked for")
def test_wait_takes_the_first_ready_ones() -> None:
    for _ in range(5):
        refs = [ray.put(i) for i in range(8)]
        assert ray.wait(refs, num_returns=2) == (refs[:2], refs[2:])


def test_wait_keeps_the_order_given() -> None:
    gates = [Gate.remote() for _ in range(3)]
    refs = [at_gate.remote(gate, i) for i, gate in enumerate(gates)]
    ray.get(gates[2].open.remote())
    ray.get(refs[2])
    assert ray.wait(refs) == ([refs[2]], refs[:2])
    ray.get(gates[0].open.remote())
    ray.get(refs[0])
    assert ray.wait(refs, num_returns=2) == ([refs[0], refs[2]], [refs[1]])
    ray.get(gates[1].open.remote())
    assert ray.wait(refs, num_returns=3) == (refs, [])


def test_wait_times_out() -> None:
    gate = Gate.remote()
    refs = [at_gate.remote(gate, 1), echo.remote(2)]
    ray.get(refs[1])
    assert ray.wait(refs, num_returns=2, timeout=0.05) == ([refs[1]], [refs[0]])
    assert ray.wait(refs, num_returns=2, timeout=0) == ([refs[1]], [refs[0]])
    ray.get(gate.open.remote())
    assert ray.wait(refs, num_returns=2, timeout=60) == (refs, [])


def test_wait_takes_errors_for_ready() -> None:
    @ray.remote
    def broken():
        raise ValueError

    ref = broken.remote()
    assert ray.wait([ref]) == ([ref], [])


def test_wait_with_fetch_local() -> None:
    ref = echo.remote(1)
    assert ray.wait([ref], fetch_local=False) == ([ref], [])


def test_wait_of_nothing() -> None:
    assert ray.wait([]) == ([], [])


def test_wait_refuses_wrong_arguments() -> None:
    ref = ray.put(1)
    with pytest.raises(TypeError):
        ray.wait(ref)
    with pytest.raises(TypeError):
        ray.wait([1])
    with pytest.raises(ValueError):
        ray.wait([ref, ref])
    with pytest.raises(ValueError):
        ray.wait([ref], num_returns=0)
    with pytest.raises(ValueError):
        ray.wait([ref], num_returns=2)
    with pytest.raises(ValueError):
        ray.wait([ref], timeout=-1)


def test_many_tasks() -> None:
    assert sum(ray.get([echo.remote(i) for i in range(200)])) == 19900


# ---------------------------------------------------------------------- patterns of the documentation


def test_pending_tasks_are_limited_with_wait() -> None:
    pending, done = [], []
    for i in range(20):
        if len(pending) >= 4:
            ready, pending = ray.wait(pending, num_returns=1)
            done += ray.get(ready)
        pending.append(echo.remote(i))
    done += ray.get(pending)
    assert sorted(done) == list(range(20))


def test_a_tree_of_actors() -> None:
    @ray.remote(num_cpus=0)
    class Leaf:
        def __init__(self, n):
            self.n = n

        def work(self, x):
            return self.n * x

    @ray.remote(num_cpus=0)
    class Root:
        def __init__(self, n):
            self.leaves = [Leaf.remote(i) for i in range(n)]

        def work(self, x):
            return sum(ray.get([leaf.work.remote(x) for leaf in self.leaves]))

    roots = [Root.remote(2), Root.remote(3)]
    assert ray.get([root.work.remote(10) for root in roots]) == [10, 30]


def test_pipelines_of_tasks_and_actors() -> None:
    @ray.remote
    class Sum:
        def __init__(self):
            self.total = 0

        def add(self, value):
            self.total += value
            return self.total

    total = Sum.remote()
    refs = [total.add.remote(echo.remote(i)) for i in range(10)]
    assert ray.get(refs[-1]) == 45


def test_a_barrier_of_tasks() -> None:
    gate = Gate.remote()
    refs = [at_gate.options(num_cpus=0).remote(gate, i) for i in range(6)]
    ray.get(gate.until_arrived.remote(6))
    assert ray.wait(refs, timeout=0)[0] == []
    ray.get(gate.open.remote())
    assert ray.get(refs) == list(range(6))


def test_a_function_with_the_same_name_elsewhere() -> None:
    def make(k):
        @ray.remote
        def same():
            return k

        return same

    first, second = make(1), make(2)
    assert ray.get([first.remote(), second.remote(), first.remote()]) == [1, 2, 1]


def test_any_name_can_be_that_of_a_keyword() -> None:
    @ray.remote
    def names(**named):
        return sorted(named)

    assert ray.get(names.remote(self=1, args=2, kwargs=3, function=4)) == [
        "args",
        "function",
        "kwargs",
        "self",
    ]


# ---------------------------------------------------------------------- long chains


@ray.remote
def fail_behind(gate):
    ray.get(gate.wait.remote())
    raise ValueError("the first one failed")


@ray.remote
class Links:
    def link(self, value):
        return value


@pytest.mark.parametrize("through_an_actor", [False, True])
def test_the_first_of_a_long_chain_fails(through_an_actor: bool) -> None:
    gate = Gate.remote()
    link = Links.remote().link if through_an_actor else echo
    ref = fail_behind.remote(gate)
    for _ in range(300):
        ref = link.remote(ref)
    ray.get(gate.open.remote())
    with pytest.raises(ValueError, match="the first one failed"):
        ray.get(ref)


def test_the_actor_of_the_first_of_a_long_chain_is_killed() -> None:
    gate = Gate.remote()
    ref = gate.wait.remote()
    for _ in range(300):
        ref = echo.remote(ref)
    ray.kill(gate)
    with pytest.raises(RayActorError):
        ray.get(ref)


def test_refs_inside_refs_a_thousand_deep() -> None:
    ref = ray.put(None)
    for depth in range(1, 1001):
        ref = ray.put([depth, ref])
    depth = 0
    while (found := ray.get(ref)) is not None:
        depth += 1
        assert found[0] == 1001 - depth
        ref = found[1]
    assert depth == 1000
