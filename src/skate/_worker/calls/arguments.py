"""Encodes the arguments of a call, refs apart from values. On the calling thread, without the lock."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import msgspec

from skate._base import ids
from skate._serialize import culprit
from skate._serialize.values import PLAIN, serialize
from skate._wire import worker as wire
from skate._worker.objects.home import Home
from skate._worker.objects.object_ref import ObjectRef, make_ref
from skate._worker.objects.refs import RefTable
from skate._worker.objects.values import Values
from skate._worker.process.context import ProcessContext


class Arguments(msgspec.Struct, eq=False):
    """The encoded arguments of a call."""

    kind: int = wire.NONE
    data: bytes = b""
    #: Arguments that are refs themselves: the task waits for them and gets their values.
    dependencies: list[tuple[int | str, ObjectRef[Any]]] | None = None
    #: Refs inside other arguments: they stay refs.
    refs: Sequence[ObjectRef[Any]] = ()
    #: The object that holds the arguments, if they are too large for a message.
    blob: ObjectRef[Any] | None = None
    #: There are no refs in it and around it.
    plain: bool = True


NO_ARGUMENTS = Arguments()


class ArgumentEncoder:
    """Turns the arguments of this process's calls into bytes."""

    def __init__(self, context: ProcessContext, refs: RefTable, home: Home, values: Values) -> None:
        self._context = context
        self._refs = refs
        self._home = home
        self._values = values
        self._max_inline = context.config.max_inline_bytes

    def encode(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, *, always_inline: bool = False
    ) -> Arguments:
        """Turn arguments into bytes, refs among them into dependencies.

        ``always_inline``: they must outlive this process, however large they are.

        Raises:
            TypeError: one cannot be pickled; the message names the path to it.
        """
        arguments = Arguments()
        plain = True
        for index, value in enumerate(args):
            kind = type(value)
            if kind not in PLAIN:
                plain = False
                if kind is ObjectRef:
                    if arguments.dependencies is None:
                        arguments.dependencies = []
                        args = tuple(args)
                    arguments.dependencies.append((index, value))
        for key, value in kwargs.items():
            kind = type(value)
            if kind not in PLAIN:
                plain = False
                if kind is ObjectRef:
                    if arguments.dependencies is None:
                        arguments.dependencies = []
                    arguments.dependencies.append((key, value))
        if arguments.dependencies is not None:
            arguments.plain = False
            args = tuple([None if type(value) is ObjectRef else value for value in args])
            kwargs = {key: None if type(value) is ObjectRef else value for key, value in kwargs.items()}
        if plain:
            data = pickle.dumps((args, kwargs), 5)
            if len(data) <= self._max_inline:
                arguments.kind, arguments.data = wire.PICKLE, data
                return arguments
        try:
            serialized = serialize((args, kwargs))
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            for index, value in enumerate(args):
                _explain(value, f"args[{index}]", name, error)
            for key, value in kwargs.items():
                _explain(value, f"kwargs[{key!r}]", name, error)
            raise
        arguments.refs = serialized.refs
        if serialized.refs:
            arguments.plain = False
        if always_inline or serialized.size <= self._max_inline:
            arguments.kind, arguments.data = serialized.kind, serialized.to_bytes()
            return arguments
        context = self._context
        with context.locked:
            entry = self._refs.own(ids.object_id(context.worker_id, context.next_counter()))
            entry.mark_exported()
        arguments.blob = make_ref(entry, self._home)
        arguments.plain = False
        self._values.store(entry, serialized, tuple)
        arguments.kind, arguments.data = wire.SHARED, entry.id
        return arguments


def _explain(value: Any, path: str, name: str, error: Exception) -> None:
    try:
        serialize(value)
    except Exception as own:
        raise TypeError(
            f"Could not serialize the argument of {name}: {culprit.explain(value, path, own)}"
        ) from None
