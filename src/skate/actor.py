"""Actors: classes whose instances live in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, Generic, NoReturn, TypeVar

from skate import options as _options
from skate._base.class_proxy import ClassProxy
from skate._base.code_flags import CO_ASYNC_GENERATOR, CO_COROUTINE, code_flags, is_generator
from skate._base.parameters import UNKNOWN, Parameters, from_text, parameters_of
from skate._graph import hooks
from skate._starting import connected_engine
from skate.engine import connection, engine
from skate.engine.interface import ActorInfo, Engine, Submit
from skate.engine.refs import ObjectRef

C = TypeVar("C")

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor", "method"]

#: Methods that every actor has: wait until it is up, run a function on it, end it.
_BUILT_IN = ("__ray_ready__", "__ray_call__", "__ray_terminate__")
_NOTHING: dict[str, int | str] = {}
#: Options of methods that handles need to know.
_METHOD_KEYS = ("num_returns", "max_task_retries", "retry_exceptions", "concurrency_group",
                "_generator_backpressure_num_objects")  # fmt: skip


def method(*args: Any, **kwargs: Any) -> Any:
    """Give an actor's method default options.

    Args:
        num_returns: how many values the method returns, each with a ref of its own.
        max_task_retries: overrides the actor's for this method.
        retry_exceptions: whether calls that raise are repeated too, up to max_task_retries times; or a
            list of the exception types after which they are.
        concurrency_group: the group of the actor's ``concurrency_groups`` that it runs in.

    Returns:
        A decorator for a method of a class that is to become an actor.

    Example:
        >>> @skate.remote
        ... class Pair:
        ...     @skate.method(num_returns=2)
        ...     def both(self):
        ...         return 1, 2
    """
    if len(args) == 1 and not kwargs and callable(args[0]):
        return args[0]
    if args or not kwargs:
        raise TypeError(
            "The @ray.method decorator must be applied using no arguments or with options by name, such as "
            "@method(num_returns=2)"
        )
    _options.check(kwargs, _options.METHOD_OPTIONS, "an actor method")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__skate_method__ = dict(kwargs)  # type: ignore[attr-defined]
        return function

    return decorate


def exit_actor() -> NoReturn:
    """End the actor whose method calls this, on purpose: it is not restarted.

    The call itself and later ones raise ActorDiedError at their callers.

    Raises:
        TypeError: this is not an actor.

    Example:
        >>> class Worker:
        ...     def stop(self):
        ...         skate.actor.exit_actor()
    """
    found = engine()
    if found is None or found.running().actor is None:
        raise TypeError(
            "exit_actor API is called on a non-actor worker: exit_actor() ends the actor whose method calls "
            "it, and this process is not an actor"
        )
    found.exit_actor()


class ActorClassInheritanceException(TypeError):
    """A class was defined whose base is an actor class."""


class _Metadata:
    """Holds the parts of an actor class. Programs reach the class below by Ray's name for it."""

    __slots__ = ("modified_class", "made", "given", "options", "methods", "parameters")

    def __init__(
        self, made: Any, given: dict[str, Any], methods: dict[str, dict[str, int | str]] | None
    ) -> None:
        cls: type = made if isinstance(made, type) else made.__origin__
        _options.check(given, _options.ACTOR_OPTIONS, "an actor class")
        self.modified_class = cls
        #: The callable that makes the instance: the class, or ``cls[int]`` for a generic one.
        self.made = made
        self.given = given
        self.options = _options.actor_options(given)
        #: Every method's options. Given when it is unpickled: a class whose methods name its own actor
        #: class has none yet at that moment.
        self.methods = _methods_of(cls, given) if methods is None else methods
        #: The parameters of the constructor; computed at first use.
        self.parameters: Parameters | None = None
        groups = self.options.concurrency_groups
        for name, chosen in self.methods.items():
            group = chosen.get("concurrency_group")
            if group is not None and group not in groups:
                raise ValueError(
                    f"{cls.__name__}.{name} is in the concurrency group {group!r}, which the actor's option "
                    f"concurrency_groups does not define (it has: {', '.join(groups) or 'none'})"
                )

    @property
    def class_name(self) -> str:
        return self.modified_class.__name__


class ActorClass(ClassProxy[C]):
    """A class that ``@remote`` made remote: ``.remote(...)`` starts an actor and returns its handle.

    Everything else is as on the class itself: its constants, static and class methods, nested classes;
    ``isinstance(x, Counter)`` and, in its methods, ``super(Counter, self)``. An attribute that is set on it
    is set on the class, for actors that start later. Calling it is an error, and so is inheriting from it.
    """

    def __init__(
        self,
        cls: type[C],
        given: dict[str, Any],
        methods: dict[str, dict[str, int | str]] | None = None,
    ) -> None:
        if isinstance(cls, str):  # how Python makes a class whose base this is
            raise _no_base(cls, "an actor class")
        metadata = _Metadata(cls, given, methods)
        super().__init__(metadata.modified_class)
        # No annotation in the body of this class: it would be ``__annotations__`` of its instances.
        object.__setattr__(self, "__ray_metadata__", metadata)

    @property
    def __ray_actor_class__(self) -> type[C]:
        """The class itself, by another of Ray's names for it."""
        return self.__wrapped__

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._changed(name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._changed(name)

    def _changed(self, name: str) -> None:
        own: _Metadata = self.__ray_metadata__
        if name in own.methods or callable(getattr(own.modified_class, name, None)):
            own.methods, own.parameters = _methods_of(own.modified_class, own.given), None
        found = engine()
        if found is not None:
            found.forget_class(own.made)

    def __getitem__(self, parameters: Any) -> Any:
        """Return what the class makes of it: of a generic class, an actor class as this one."""
        own: _Metadata = self.__ray_metadata__
        made: Any = own.modified_class[parameters]  # type: ignore[index]
        if isinstance(made, type):
            return ActorClass(made, own.given)
        if getattr(made, "__origin__", None) is own.modified_class:
            return ActorClass(made, own.given, own.methods)
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: an actor class is not instantiated directly."""
        name = self.__ray_metadata__.class_name
        raise TypeError(
            f"{name} is an actor class. Actors cannot be instantiated directly: use {name}.remote(...)"
        )

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle[C]:
        """Start an actor: a process that holds one instance of the class.

        Args:
            args, kwargs: the constructor's arguments; ObjectRefs are replaced by their values there.

        Returns:
            The handle, at once. If the constructor raises, every call through it does.

        Raises:
            ActorAlreadyExistsError: the name is taken (a ValueError).
            TypeError: the constructor does not take these arguments, or one cannot be pickled.
            ValueError: ``get_if_exists`` without a name.

        Example:
            >>> @skate.remote
            ... class Counter:
            ...     def __init__(self):
            ...         self.n = 0
            ...     def add(self):
            ...         self.n += 1
            ...         return self.n
            >>> counter = Counter.remote()
            >>> skate.get(counter.add.remote())
            1
        """
        own: _Metadata = self.__ray_metadata__
        if own.parameters is None:
            own.parameters = _constructor(own.modified_class)
        own.parameters.check(f"{own.class_name}.__init__", args, kwargs)
        if own.options.get_if_exists and not own.options.name:
            raise ValueError(
                f"The actor name must be specified to use `get_if_exists`: {own.class_name} has none"
            )
        info = connected_engine().create_actor(own.made, own.methods, args, kwargs, own.options)
        return ActorHandle(info)

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return a node of a graph that starts an actor when the graph is executed. See ``skate.dag``.

        Args:
            args, kwargs: the constructor's arguments; nodes among them are replaced by their results.

        Example:
            >>> skate.get(Counter.bind().add.bind().execute())
            1
        """
        from skate._graph.class_node import ClassNode

        own: _Metadata = self.__ray_metadata__
        return ClassNode(own.made, args, kwargs, own.given)

    def _remote(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **actor_options: Any
    ) -> ActorHandle[C]:
        """Start an actor with other options: ``options(**actor_options).remote(*args, **kwargs)`` in one."""
        chosen = self.options(**actor_options) if actor_options else self
        return chosen.remote(*(args or ()), **(kwargs or {}))

    def options(self, **actor_options: Any) -> ActorClass[C]:
        """Return the same class with other options.

        Args:
            actor_options: any option of ``@skate.remote`` for classes.

        Example:
            >>> Counter.options(name="counter", get_if_exists=True).remote()
        """
        own: _Metadata = self.__ray_metadata__
        return ActorClass(own.made, {**own.given, **actor_options})

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        """Refuse: what would inherit is an actor class, not the class below it."""
        raise _no_base("", self.__ray_metadata__.class_name)

    def __reduce__(self) -> tuple[Any, ...]:
        own: _Metadata = self.__ray_metadata__
        return ActorClass, (own.made, own.given, own.methods)

    def __repr__(self) -> str:
        return f"ActorClass({self.__module__}.{self.__qualname__})"


def _no_base(name: str, base: str) -> ActorClassInheritanceException:
    """Return what to raise where an actor class is made the base of a class."""
    return ActorClassInheritanceException(
        f"the class{name and ' ' + name} has the actor class {base} as its base. Inheriting from actor "
        "classes is not currently supported: inherit from the plain class, and make the subclass remote: "
        "Base = skate.remote(PlainBase), Sub = skate.remote(PlainSub)"
    )


def _constructor(cls: type) -> Parameters:
    """Return what the class takes when it is instantiated."""
    if type(cls).__call__ is not type.__call__ or cls.__new__ is not object.__new__:  # type: ignore[comparison-overlap]
        return UNKNOWN
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return parameters_of(lambda: None)
    return parameters_of(cls.__init__, bound=True)  # type: ignore[misc]


def _methods_of(cls: type, actor_options: dict[str, Any]) -> dict[str, dict[str, int | str]]:
    """Return every method's options."""
    ahead = actor_options.get("_actor_generator_backpressure_num_objects")
    methods: dict[str, dict[str, int | str]] = {}
    for name in dir(cls):
        try:
            function = getattr(cls, name, None)
        except Exception:  # noqa: S112  (a property of the metaclass, perhaps, that is not for now)
            continue
        if not callable(function):
            continue
        if name.startswith("__") and name.endswith("__") and not _is_written(name, function):
            continue
        if isinstance(function, type):
            continue
        flags = code_flags(function)
        given = getattr(function, "__skate_method__", _NOTHING)
        chosen = {key: given[key] for key in _METHOD_KEYS if given.get(key) is not None}
        if "retry_exceptions" in chosen:
            retry = _options.retry_blob(chosen["retry_exceptions"])
            del chosen["retry_exceptions"]
            if retry is not None:
                chosen["retry_exceptions"] = retry.decode("latin-1")
        if flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
            chosen["is_async"] = 1
        if is_generator(function, decorated=True):
            chosen["is_generator"] = 1
            if ahead is not None:
                chosen.setdefault("_generator_backpressure_num_objects", ahead)
        takes = _method_parameters(cls, name, function)
        if takes is not UNKNOWN:
            chosen["takes"] = takes.to_text()
        if given.get("enable_task_events", actor_options.get("enable_task_events")) is False:
            chosen["enable_task_events"] = 0
        methods[name] = chosen
    return methods


def _is_written(name: str, function: Any) -> bool:
    """Whether a special method is the user's own, such as ``__call__`` or ``__len__``, and can be asked of a
    handle, which has some of its own."""
    return isinstance(function, FunctionType) and not any(name in vars(base) for base in ActorHandle.__mro__)


def _method_parameters(cls: type, name: str, function: Any) -> Parameters:
    """Return what a method takes when it is called on an instance."""
    written = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    if isinstance(written, staticmethod):
        return parameters_of(function)
    return parameters_of(getattr(function, "__func__", function), bound=True)


class ActorHandle(Generic[C]):
    """Names an actor. Pass it to tasks and other actors; call ``handle.method.remote(...)``.

    When the last handle is gone, and the calls made through it are done, the actor ends.
    """

    def __init__(self, info: ActorInfo) -> None:
        self._info = info

    def __getattr__(self, name: str) -> Any:
        info: ActorInfo = self.__dict__["_info"]
        given = info.methods.get(name)
        if given is None:
            if name in _BUILT_IN:
                given = _NOTHING
            elif name.startswith("__") and name.endswith("__"):
                raise AttributeError(name)
            else:
                known = ", ".join(sorted(one for one in info.methods if not one.startswith("__"))) or "none"
                raise AttributeError(
                    f"'ActorHandle' object has no attribute {name!r}: the actor class {info.class_name} has "
                    f"no such method; it has: {known}. Attributes of an actor are read through its methods."
                )
        bound = ActorMethod(info, name, given)
        self.__dict__[name] = bound
        return bound

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._info.methods})

    @property
    def _actor_id(self) -> Any:
        from skate._base.ids import ActorID

        return ActorID(self._info.actor_id)

    def __repr__(self) -> str:
        return f"Actor({self._info.class_name}, {self._info.actor_id.hex()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._info.actor_id == self._info.actor_id

    def __hash__(self) -> int:
        return hash(self._info.actor_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _handle, tuple(self._info)


def _handle(*fields: Any) -> ActorHandle[Any]:
    return ActorHandle(ActorInfo(*fields))


ActorProxy = ActorHandle
"""Ray's name for what type checkers see a handle as."""


class ActorMethod:
    """A method of an actor: ``.remote(...)`` calls it."""

    __slots__ = ("_info", "_name", "_given", "_engine", "_submit", "_parameters", "_least", "_most")

    def __init__(self, info: ActorInfo, name: str, given: dict[str, int | str]) -> None:
        self._info = info
        self._name = name
        self._given = given
        self._engine: Engine | None = None
        self._submit: Submit

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: methods of actors are not called directly."""
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{self._name}()', try "
            f"'object.{self._name}.remote()'"
        )

    def remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[Any]:
        """Call the method. Calls from one process run in the order in which they were made.

        Returns:
            The ref of the result; a list of refs if ``num_returns`` is above 1; None if it is 0; an
            ObjectRefGenerator if the method is a generator.

        Raises:
            TypeError: the method does not take these arguments, or one cannot be pickled.
        """
        if connection.engine is not self._engine or self._engine is None:
            self._bind()
        if kwargs or not self._least <= len(args) <= self._most:
            self._parameters.check(f"{self._info.class_name}.{self._name}", args, kwargs)
        return self._submit(args, kwargs)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return _method, (ActorHandle(self._info), self._name, self._given)

    def _bind(self) -> None:
        found = connected_engine()
        takes = self._given.get("takes")
        self._parameters = UNKNOWN if takes is None else from_text(str(takes))
        self._least, self._most = self._parameters.least, self._parameters.most
        self._submit = found.bind_method(self._info, self._name, self._given)
        self._engine = found

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return a node of a graph that calls the method when the graph is executed. See ``skate.dag``.

        Args:
            args, kwargs: the method's arguments; nodes among them are replaced by their results.

        Returns:
            The node; a tuple of nodes if ``num_returns`` is above 1.

        Example:
            >>> skate.get(counter.add.bind().execute())
            1
        """
        from skate._graph.class_node import bind_method

        own = self._info.methods.get(self._name, _NOTHING)
        options = {key: value for key, value in self._given.items() if own.get(key) != value}
        return bind_method(ActorHandle(self._info), self._name, options, args, kwargs)

    def _remote(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str = "",
        **options: Any,
    ) -> Any:
        """Call the method with other options: ``options(**options).remote(*args, **kwargs)`` in one."""
        given = {key: value for key, value in (("name", name or None), *options.items()) if value is not None}
        chosen = self.options(**given) if given else self
        return chosen.remote(*(args or ()), **(kwargs or {}))

    def options(self, **options: Any) -> ActorMethod:
        """Return the same method with other options: ``num_returns``, ``max_task_retries``,
        ``concurrency_group``."""
        _options.check(options, _options.METHOD_OPTIONS, "an actor method")
        known = {key: value for key, value in options.items() if value is not None}
        return ActorMethod(self._info, self._name, {**self._given, **known})


def _method(handle: ActorHandle[Any], name: str, given: dict[str, int | str]) -> ActorMethod:
    return ActorMethod(handle._info, name, given)


def _compile_graph(root: Any, *arguments: Any) -> Any:
    from skate.dag.compiled_dag_node import CompiledDAG

    compiled = CompiledDAG(*arguments)
    compiled._connect(root)
    return compiled


hooks.make_actor_class, hooks.compile_graph = ActorClass, _compile_graph
