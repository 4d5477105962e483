"""The arguments of a call: to bytes, refs among them apart. On the calling thread, without the lock."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from skate._base import ids
from skate._serialize import culprit
from skate._serialize.values import PLAIN, serialize
from skate._wire import worker as wire
from skate._worker.objects.object_ref import ObjectRef, make_ref

if TYPE_CHECKING:
    from skate._worker.core import Core


class Arguments(msgspec.Struct, eq=False):
    """The arguments of a call as they travel."""

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


def encode(
    core: Core, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, *, always_inline: bool = False
) -> Arguments:
    """Turn arguments into bytes, refs among them into dependencies.

    ``always_inline``: they are to outlive this process, however large they are.

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
        if len(data) <= core.config.max_inline_bytes:
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
    if always_inline or serialized.size <= core.config.max_inline_bytes:
        arguments.kind, arguments.data = serialized.kind, serialized.to_bytes()
        return arguments
    with core.changing:
        entry = core.refs.own(ids.object_id(core.worker_id, core.next_counter()))
        entry.exported = True
    arguments.blob = make_ref(entry, core)
    arguments.plain = False
    core.objects.store(entry, serialized, tuple)
    arguments.kind, arguments.data = wire.SHARED, entry.id
    return arguments


def _explain(value: Any, path: str, name: str, error: Exception) -> None:
    try:
        serialize(value)
    except Exception as own:
        raise TypeError(
            f"Could not serialize the argument of {name}: {culprit.explain(value, path, own)}"
        ) from None
