"""InputNode: what ``execute`` is called with."""

from __future__ import annotations

from typing import Any

from skate._graph.node import DAGNode
from skate._starting import connected_engine
from skate.engine.refs import ObjectRef


class DAGInputData:
    """Several arguments of ``execute``, or keyword arguments: ``data[0]``, ``data["x"]``."""

    __module__ = "skate.dag.input_node"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = args
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return self._args[key]
        if isinstance(key, str):
            return self._kwargs[key]
        raise ValueError(f"arguments of execute() are found by position or name, not by {key!r}")

    def __repr__(self) -> str:
        parts = [*map(repr, self._args), *(f"{key}={value!r}" for key, value in self._kwargs.items())]
        return f"DAGInputData({', '.join(parts)})"


class InputNode(DAGNode):
    """Stands for the argument of ``execute``; ``inp[0]`` and ``inp.name`` stand for one of several.

    Args:
        input_type: the type of the input, or a dictionary of types by position and name: a note for
            readers, which nothing checks.

    Example:
        >>> with InputNode() as inp:
        ...     graph = add.bind(inp[0], inp.offset)
        >>> skate.get(graph.execute(1, offset=10))
        11
    """

    __module__ = "skate.dag.input_node"

    def __init__(
        self,
        *args: Any,
        input_type: Any = None,
        _other_args_to_resolve: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if args or kwargs:
            raise ValueError("InputNode() takes no arguments: it stands for those of execute()")
        super().__init__((), {}, {}, _other_args_to_resolve)
        self._input_type = input_type
        self._context: dict[str, Any] = {}
        self._attributes: dict[tuple[str, int | str], InputAttributeNode] = {}

    def _execute_impl(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[str, Any],
        input_args: tuple[Any, ...],
        input_kwargs: dict[str, Any],
    ) -> Any:
        return whole_input(input_args, input_kwargs)

    def __enter__(self) -> InputNode:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def __getattr__(self, name: str) -> InputAttributeNode:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._part(name, "__getattr__")

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        if not isinstance(key, (int, str)) or isinstance(key, bool):
            raise ValueError(
                f"an input is taken by position or name, such as inp[0] or inp['x'], not {key!r}"
            )
        return self._part(key, "__getitem__")

    def _part(self, key: int | str, accessor: str) -> InputAttributeNode:
        found = self._attributes.get((accessor, key))
        if found is None:
            kind = self._input_type.get(key) if isinstance(self._input_type, dict) else None
            found = self._attributes[accessor, key] = InputAttributeNode(self, key, accessor, kind)
        return found

    def set_context(self, key: str, val: Any) -> None:
        """Remember something about the graph that is being described."""
        self._context[key] = val

    def get_result_type(self) -> Any:
        """Return the ``input_type`` that was given."""
        return self._input_type

    @property
    def _title(self) -> str:
        return "input"


class InputAttributeNode(DAGNode):
    """One of the arguments of ``execute``, or an attribute or item of the only one. Made by ``InputNode``."""

    __module__ = "skate.dag.input_node"

    def __init__(
        self, dag_input_node: InputNode, key: int | str, accessor_method: str, input_type: Any = None
    ) -> None:
        others = {"dag_input_node": dag_input_node, "key": key, "accessor_method": accessor_method}
        super().__init__((), {}, {}, others)
        self._key = key
        self._accessor = accessor_method
        self._input_type = input_type

    def _execute_impl(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[str, Any],
        input_args: tuple[Any, ...],
        input_kwargs: dict[str, Any],
    ) -> Any:
        return self.value_in(others["dag_input_node"])

    def value_in(self, given: Any) -> Any:
        """Return the part of the input.

        Raises:
            ValueError: ``execute`` was not given it.
        """
        if isinstance(given, DAGInputData):
            try:
                return given[self._key]
            except LookupError:
                raise ValueError(
                    f"the graph uses the argument {self._key!r} of execute(), which got {given!r}"
                ) from None
        if isinstance(given, ObjectRef):
            given = connected_engine().get_one(given, None)
        if self._accessor == "__getitem__":
            return given[self._key]
        return getattr(given, str(self._key))

    @property
    def key(self) -> int | str:
        """The position or the name."""
        return self._key

    def get_result_type(self) -> Any:
        """Return the type that ``InputNode(input_type={key: type})`` was given for it."""
        return self._input_type

    @property
    def _title(self) -> str:
        return f"input[{self._key!r}]" if self._accessor == "__getitem__" else f"input.{self._key}"


def whole_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an InputNode stands for."""
    return args[0] if len(args) == 1 and not kwargs else DAGInputData(*args, **kwargs)
