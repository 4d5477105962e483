"""Sends a user's exception between processes: as a whole, and in pieces in case the whole cannot be
unpickled.

::

    error ─seal─► whole: bytes, by its class's own way to be pickled ────────► unpickled: the cause
                  pieces: class | args | attributes, each in bytes of its own ─► else: made of those that can
                                                                                 be unpickled there
                  words: type and text ────────────────────────────────────────► else: UserCodeException

So the type arrives whenever its class can be found there, and the text names the parts that were left out.
Anything that the user's code raises meanwhile (``SystemExit``, ``RecursionError``) ends here.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from skate._base.bare import is_bare, make_bare, parts_of
from skate._base.errors import RayTaskError, UserCodeException
from skate._base.user_errors import (
    args_of,
    attributes_of,
    full_name,
    is_a,
    is_kind,
    is_native,
    summary_of,
    text_of,
    type_name,
)
from skate._serialize.values import PLAIN, is_known_by_name, reducers, renamed, slow_pickler

#: How one piece travels: as bytes; as an exception in pieces; as a sequence of pieces; as a text in its
#: place.
_BYTES, _ERROR, _SEQUENCE, _WORDS = range(4)
#: A larger piece (bytes) is not sent a second time beside the whole.
_LARGEST_PIECE = 16 * 1024
#: The most characters of a text, and of a repr, that stands for a value (count).
_MAX_TEXT = 10_000
_MAX_REPR = 200
#: Exceptions in exceptions are taken apart to this depth (count).
_DEEPEST = 10

_Piece = tuple[Any, ...]


class Sealed:
    """Holds the error that the caller of a failed task receives. It always pickles, since it holds bytes and
    strings only."""

    __slots__ = ("where", "text", "whole", "pieces", "process")

    def __init__(
        self,
        where: str,
        text: str,
        whole: bytes | str,
        pieces: _Piece | None,
        process: tuple[Any, ...],
    ) -> None:
        #: The task or method, and the text of the traceback.
        self.where = where
        self.text = text
        #: ... or why there is none.
        self.whole = whole
        #: None: the whole arrives wherever Python runs.
        self.pieces = pieces
        #: Further arguments of RayTaskError.
        self.process = process

    def __reduce__(self) -> tuple[Any, ...]:
        return Sealed, (self.where, self.text, self.whole, self.pieces, self.process)

    def open(self) -> RayTaskError:
        """Return the error, with as much of the user's exception as this process can make."""
        missing: list[str] = []
        cause = self._cause(missing)
        text = self.text
        if missing:
            text = f"{text.rstrip()}\n\nThe exception arrived without the parts that cannot be pickled there "
            text += f"and unpickled here: {'; '.join(missing)}\n"
        return RayTaskError(self.where, text, cause, *self.process)

    def _cause(self, missing: list[str]) -> BaseException:
        if isinstance(self.whole, str):
            problem = self.whole
        else:
            try:
                found = pickle.loads(self.whole)
                if is_a(found, BaseException):
                    return found  # type: ignore[no-any-return]
                problem = f"unpickling gives a {type_name(found)}"
            except BaseException as raised:
                problem = summary_of(raised)
        assert self.pieces is not None
        cause = _made_of(self.pieces, "", missing)
        if not missing:
            missing.append(f"the pickle made by its own class ({problem})")
        return cause


def seal(where: str, text: str, cause: BaseException, *process: Any) -> Sealed:
    """Take an exception apart to send it. The refs inside are collected as for every value."""
    if is_native(type(cause)) and not attributes_of(cause) and all(type(a) in PLAIN for a in args_of(cause)):
        try:
            return Sealed(where, text, pickle.dumps(cause, 5), None, process)
        except Exception:
            pass
    whole: bytes | str
    try:
        whole = _dump(cause)
    except BaseException as problem:  # SystemExit too: of a hook
        whole = summary_of(problem)
    return Sealed(where, text, whole, _take_apart(cause, isinstance(whole, str), []), process)


# ---------------------------------------------------------------------- where it was raised


def _dump(value: Any) -> bytes:
    out = io.BytesIO()
    _error_pickler()(out, 5).dump(value)
    return out.getvalue()


_pickler: Any = None


def _error_pickler() -> Any:
    global _pickler
    if _pickler is None:

        class ErrorPickler(slow_pickler()):  # type: ignore[misc]
            """Pickles exceptions without their constructors, which often take something else than their
            args."""

            def reducer_override(self, obj: Any) -> Any:
                kind = type(obj)
                if is_kind(obj) and id(obj) not in renamed and is_known_by_name(obj):
                    return NotImplemented  # cloudpickle would ask the metaclass for its hash
                if is_a(obj, BaseException) and kind not in reducers and is_bare(kind):
                    return make_bare, parts_of(obj)
                return super().reducer_override(obj)

        _pickler = ErrorPickler
    return _pickler


def _take_apart(error: BaseException, all_sizes: bool, inside: list[int]) -> _Piece:
    """Return the pieces of an exception. ``inside``: the exceptions that it is a part of, by their ids."""
    inside = [*inside, id(error)]
    kind, args, attributes = parts_of(error)
    return (
        _piece(kind, True, inside),
        [_piece(value, all_sizes, inside) for value in args],
        [(str(name), _piece(value, all_sizes, inside)) for name, value in attributes.items()],
        f"{full_name(kind)}: {text_of(error)[:_MAX_TEXT]}",
    )


def _piece(value: Any, all_sizes: bool, inside: list[int]) -> _Piece:
    if is_a(value, BaseException):
        if id(value) in inside:
            return _WORDS, type_name(value), "it contains itself"
        if len(inside) < _DEEPEST:
            return _ERROR, _take_apart(value, all_sizes, inside)
    elif type(value) in (list, tuple) and any(is_a(one, BaseException) for one in value):
        return _SEQUENCE, type(value) is tuple, [_piece(one, all_sizes, inside) for one in value]
    try:
        data = _dump(value)
    except BaseException as problem:
        return _WORDS, text_of(value, repr)[:_MAX_REPR], summary_of(problem)
    if len(data) > _LARGEST_PIECE and not all_sizes:
        return _WORDS, text_of(value, repr)[:_MAX_REPR], f"it has {len(data)} bytes"
    return _BYTES, data


# ---------------------------------------------------------------------- where it arrives


class _Absent(Exception):
    """A piece cannot be made here.

    Args:
        reason: why.
        words: the text that stands for it.
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(reason, words)
        self.reason = reason
        self.words = words


def _made_of(pieces: _Piece, path: str, missing: list[str]) -> BaseException:
    """Return an exception made of those pieces that can be made here. ``path``: a Python expression for its
    place; ``missing`` gets the pieces that are left out."""
    which, args, attributes, words = pieces
    kind: Any = None
    try:
        kind = _value(which, path, missing)
        problem = "it is no class of exceptions"
    except _Absent as absent:
        problem = absent.reason
    if not is_kind(kind):
        missing.append(f"the class of {path[1:]} ({problem})" if path else f"its class ({problem})")
        return UserCodeException(
            f"{words} (this is not the exception itself: its class cannot be pickled and unpickled: "
            f"{problem})"
        )
    given: list[Any] = []
    for index, piece in enumerate(args):
        try:
            given.append(_value(piece, f"{path}.args[{index}]", missing))
        except _Absent as absent:
            missing.append(f"{path}.args[{index}]"[1:] + f" ({absent.reason})")
            given.append(absent.words)
    held: dict[str, Any] = {}
    for name, piece in attributes:
        try:
            held[name] = _value(piece, f"{path}.{name}", missing)
        except _Absent as absent:
            missing.append(f"{path}.{name}"[1:] + f" ({absent.reason})")
    try:
        return make_bare(kind, tuple(given), held)
    except BaseException as refusal:  # the built-in type takes no text about missing pieces
        missing.append(f"{path}.args"[1:] + f" ({summary_of(refusal)})")
    return make_bare(kind, (), held)


def _value(piece: _Piece, path: str, missing: list[str]) -> Any:
    """Return the value of a piece.

    Raises:
        _Absent: it cannot be made here.
    """
    form = piece[0]
    if form == _BYTES:
        try:
            return pickle.loads(piece[1])
        except BaseException as problem:
            raise _Absent(summary_of(problem), f"<{path[1:]}, which cannot be unpickled>") from None
    if form == _WORDS:
        raise _Absent(piece[2], piece[1])
    if form == _ERROR:
        return _made_of(piece[1], path, missing)
    items: list[Any] = []
    for index, one in enumerate(piece[2]):
        try:
            items.append(_value(one, f"{path}[{index}]", missing))
        except _Absent as absent:
            missing.append(f"{path}[{index}]"[1:] + f" ({absent.reason})")
            items.append(absent.words)
    return tuple(items) if piece[1] else items
