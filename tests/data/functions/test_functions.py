"""UserFunction: what verbs accept, and what identifies a function in a plan's hash."""

from __future__ import annotations

import functools

import pyarrow as pa
import pytest

from skate import cloudpickle
from skate.data._operators.functions import GroupFunction, UserFunction
from skate.data.exceptions import RayDataUserCodeException


def double(row):
    return {"x": row["x"] * 2}


class Add:
    def __init__(self, by, more=0):
        self.by = by + more

    def __call__(self, row, times=1):
        return {"x": row["x"] + self.by * times}


class NotCallable:
    pass


class Broken:
    def __init__(self):
        raise KeyError("weights")

    def __call__(self, row):
        return row


class Awaits:
    async def __call__(self, row):
        return row


async def agen(row):
    yield row


def gen(row):
    yield row


def test_arguments_follow_the_row():
    function = UserFunction.of(lambda row, a, b=0: {"s": (row, a, b)}, [1], {"b": 2})
    assert function.instantiate()("row") == {"s": ("row", 1, 2)}


def test_class_gets_constructor_arguments():
    function = UserFunction.of(Add, [3], None, [10], {"more": 1})
    assert function.instantiate()({"x": 1}) == {"x": 34}
    assert function.is_class
    assert function.name == "Add"


@pytest.mark.parametrize("name", ["fn_constructor_args", "fn_constructor_kwargs"])
def test_constructor_arguments_with_a_function(name):
    given = [1] if name.endswith("_args") else {"a": 1}
    with pytest.raises(ValueError, match=f"{name}.*double.*fn_args"):
        UserFunction.of(double, **{name: given})


@pytest.mark.parametrize("fn", [5, None, "abs", NotCallable, NotCallable()])
def test_not_callable(fn):
    with pytest.raises(TypeError, match="map_batches"):
        UserFunction.of(fn, verb="map_batches")


@pytest.mark.parametrize(
    ("name", "value"),
    [("fn_args", "ab"), ("fn_args", 5), ("fn_kwargs", [1]), ("fn_kwargs", "a")],
)
def test_arguments_of_the_wrong_type(name, value):
    with pytest.raises(TypeError, match=name):
        UserFunction.of(double, **{name: value})


def test_kinds():
    assert UserFunction.of(Awaits).is_async
    assert UserFunction.of(Awaits()).is_async
    assert UserFunction.of(agen).is_async and UserFunction.of(agen).is_generator
    assert UserFunction.of(gen).is_generator and not UserFunction.of(gen).is_async
    assert not UserFunction.of(double).is_async
    assert UserFunction.of(functools.partial(gen)).is_generator
    assert UserFunction.of(functools.partial(double)).name == "double"
    assert UserFunction.of(lambda row: row).name == "<lambda>"


def test_pickles():
    copy = cloudpickle.loads(cloudpickle.dumps(UserFunction.of(Add, None, {"times": 2}, [1])))
    assert copy.instantiate()({"x": 0}) == {"x": 2}
    assert copy.key() == UserFunction.of(Add, None, {"times": 2}, [1]).key()


def test_constructor_error_keeps_its_type_and_traceback():
    with pytest.raises(KeyError) as caught:
        UserFunction.of(Broken).instantiate()
    error = caught.value
    assert isinstance(error, RayDataUserCodeException)
    assert "constructor of Broken" in str(error)
    assert 'raise KeyError("weights")' in error.traceback_str
    assert isinstance(error.__cause__, KeyError)


# ---------------------------------------------------------------------- keys


def test_key_is_equal_for_the_same_function():
    assert UserFunction.of(double).key() == UserFunction.of(double).key()
    assert UserFunction.of(double).key().startswith(f"{__name__}.double:")


def _compiled(source):
    space = {}
    exec(source, space)
    return space["f"]


def test_key_changes_with_the_code_where_there_is_no_source():
    one = UserFunction.of(_compiled("def f(row): return row['a']"))
    same = UserFunction.of(_compiled("def f(row):\n    return row['a']"))
    other = UserFunction.of(_compiled("def f(row): return row['b']"))
    constant = UserFunction.of(_compiled("def f(row): return 'b'"))
    assert one.key() == same.key()
    assert len({one.key(), other.key(), constant.key()}) == 3


def test_key_changes_with_what_is_closed_over():
    def adding(n):
        return lambda row: {"x": row["x"] + n}

    assert UserFunction.of(adding(1)).key() == UserFunction.of(adding(1)).key()
    assert UserFunction.of(adding(1)).key() != UserFunction.of(adding(2)).key()


def test_key_changes_with_arguments():
    keys = {
        UserFunction.of(Add, *arguments).key()
        for arguments in [
            (None, None, [1]),
            (None, None, [2]),
            (None, None, [2], {"more": 0}),
            ([1], None, [1]),
            (None, {"times": 1}, [1]),
        ]
    }
    assert len(keys) == 5


class Anything:
    """Takes what its parent takes, as far as Python can tell."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, by):
        self.by = by

    def __call__(self, row, scale):
        return row


def injected(function):
    @functools.wraps(function)
    def call(row):
        return function(row, "injected")

    return call


@pytest.mark.parametrize(
    ("fn", "arguments", "wrong"),
    [
        (lambda: {"x": 1}, {}, r"<lambda>\(\) cannot be called with a row: too many"),
        (lambda row, by: row, {}, "a row: missing a required argument: 'by'"),
        (lambda row: row, {"fn_args": [1]}, "a row, fn_args and fn_kwargs: too many"),
        (lambda row, by: row, {"fn_kwargs": {"bye": 1}}, "missing a required argument: 'by'"),
        (Add, {}, r"Add.__init__\(self, by, more=0\) cannot be called with fn_constructor_args"),
        (Add(1), {"fn_kwargs": {"time": 2}}, "unexpected keyword argument 'time'"),
        (Add(1).__call__, {"fn_args": [1, 2]}, "too many positional arguments"),
        (Add, {"fn_constructor_args": [1], "fn_kwargs": {"time": 2}}, r"Add\(self, row, times=1\)"),
        (Anything, {}, "missing a required argument: 'scale'"),
    ],
)
def test_parameters_that_do_not_fit_are_errors_of_the_call(fn, arguments, wrong):
    with pytest.raises(TypeError, match=rf"map\(fn\): .*{wrong}"):
        UserFunction.of(fn, **arguments)


@pytest.mark.parametrize(
    ("fn", "arguments"),
    [
        (lambda *rows: rows, {"fn_args": [1, 2]}),
        (lambda row, **more: row, {"fn_kwargs": {"a": 1}}),
        (injected(lambda row, model: row), {}),
        (functools.partial(lambda by, row: row, 1), {}),
        (Anything, {"fn_kwargs": {"scale": 1}}),
        (print, {}),
    ],
)
def test_what_python_cannot_know_is_left_to_the_run(fn, arguments):
    assert UserFunction.of(fn, **arguments).fn is fn


def test_two_lambdas_of_one_line_differ():
    pair = [lambda row: row["a"], lambda row: row["b"]]
    assert UserFunction.of(pair[0]).key() != UserFunction.of(pair[1]).key()


# ---------------------------------------------------------------------- groups


def test_group_gets_pandas_by_default():
    kinds = []

    def count(group):
        kinds.append(type(group).__module__.split(".")[0])
        return {"n": [len(group)]}

    made = list(GroupFunction(UserFunction.of(count))(pa.table({"a": [1, 2, None]})))
    assert [table.to_pylist() for table in made] == [[{"n": 3}]]
    assert kinds == ["pandas"]


@pytest.mark.parametrize(
    ("batch_format", "kind"), [("numpy", "dict"), ("pyarrow", "Table"), ("pandas", "DataFrame")]
)
def test_group_formats(batch_format, kind):
    seen = []
    function = GroupFunction(UserFunction.of(lambda g: seen.append(type(g).__name__) or g), batch_format)
    assert next(function(pa.table({"a": [1]}))).to_pylist() == [{"a": 1}]
    assert seen == [kind]


def test_group_format_that_there_is_not():
    with pytest.raises(ValueError, match="map_groups.*batch_format='arrow'"):
        GroupFunction(UserFunction.of(double), "arrow")


def test_group_class_is_made_once_and_pickles_without_its_instance():
    class Counter:
        def __init__(self):
            self.n = 0

        def __call__(self, group):
            self.n += 1
            yield {"n": [self.n]}
            yield {"n": [len(group)]}

    function = GroupFunction(UserFunction.of(Counter))
    table = pa.table({"a": [1, 2]})
    assert [[t.to_pylist() for t in function(table)] for _ in range(2)] == [
        [[{"n": 1}], [{"n": 2}]],
        [[{"n": 2}], [{"n": 2}]],
    ]
    copy = cloudpickle.loads(cloudpickle.dumps(function))
    assert next(copy(table)).to_pylist() == [{"n": 1}]


def test_group_error_names_the_group():
    def fails(group):
        raise ZeroDivisionError("none")

    with pytest.raises(ZeroDivisionError, match=r"MapGroups\(fails\).*a=5") as caught:
        list(GroupFunction(UserFunction.of(fails))(pa.table({"a": [5, 5]})))
    assert isinstance(caught.value, RayDataUserCodeException)


def test_async_group():
    async def count(group):
        return {"n": [len(group)]}

    assert next(GroupFunction(UserFunction.of(count))(pa.table({"a": [1]}))).to_pylist() == [{"n": 1}]
