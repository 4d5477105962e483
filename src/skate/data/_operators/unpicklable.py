"""Finds what in a stage cannot be sent to a process of the session, and says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from skate.data._operators.functions import UserFunction
from skate.data._previews import kind
from skate.data._task.operators import Operator


class UnpicklableError(TypeError):
    """A stage cannot be sent to processes of the session."""


def unpicklable(
    stage: str, operators: Sequence[Operator], others: Any, error: BaseException
) -> UnpicklableError:
    """Return the error of a stage that cannot be pickled: the function, what in it is to blame, a way out.

    Args:
        stage: name of the stage.
        operators: of the stage.
        others: what else a task gets: its read tasks.
        error: what the pickler raised.

    Example:
        >>> function = UserFunction.of(lambda row: lock)
        >>> print(unpicklable("Map(<lambda>)", [MapRows(function)], [], TypeError("cannot pickle a lock")))
        Map(<lambda>) runs in processes of the session, but the global 'lock' used by <lambda> is a lock, ...
    """
    # The driver has it; a small data set that runs in the caller's process does without.
    from skate import cloudpickle

    for name, part in (*_parts(operators), ("its source", others)):
        problem = _problem(part)
        if problem is None:
            continue
        where, culprit = cloudpickle.find_unpicklable(part, name)
        return UnpicklableError(
            f"{stage} runs in processes of the session, but {where} is {kind(culprit)}, which cannot be sent "
            f"there ({problem}). Make it inside the function, or in the __init__ of a class that you give in "
            "the function's place: that runs once in each process."
        )
    return UnpicklableError(f"{stage} cannot be sent to processes of the session: {error}")


def _parts(operators: Sequence[Operator]) -> Iterator[tuple[str, Any]]:
    """Yield what operators consist of, with words for it: first the parts of functions of users."""
    for operator in operators:
        for function in _functions(operator):
            name = function.name
            yield name, function.fn
            yield "fn_args", function.args
            yield "fn_kwargs", function.kwargs
            yield "fn_constructor_args", function.constructor_args
            yield "fn_constructor_kwargs", function.constructor_kwargs
    for operator in operators:
        yield operator.name, operator


def _functions(operator: Operator) -> Iterator[UserFunction]:
    for value in vars(operator).values():
        # A group's function is one level further down.
        for found in (value, getattr(value, "function", None)):
            if isinstance(found, UserFunction):
                yield found


def _problem(part: Any) -> str | None:
    """Return why something cannot be pickled; None if it can."""
    from skate import cloudpickle

    try:
        cloudpickle.dumps(part)
    except (Exception, SystemExit) as error:  # the latter: of a hook of the value
        return f"{type(error).__name__}: {error}"
    return None
