"""OpenAI's HTTP API: requests checked, answers built, texts cut at stop sequences. Decisions only: no I/O, no
clock."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Fields of a request that are not passed on to the model by their own names.
_OWN = ("model", "messages", "prompt", "input", "stream", "stream_options", "n", "stop", "max_tokens",
        "max_completion_tokens", "encoding_format")  # fmt: skip
_MOST_CHOICES = 128


class RequestError(Exception):
    """A request that is answered with an error of OpenAI's shape. A model may raise it, too.

    Args:
        message: for the client.
        status: of the HTTP answer.
        param: the field of the request that is wrong.
        code: for programs, such as "model_not_found".

    Example:
        >>> raise RequestError("the prompt has 9,000 tokens; this model takes 8,192", param="messages")
    """

    def __init__(
        self, message: str, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, status, param, code)
        self.message, self.status, self.param, self.code = message, status, param, code

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, Any]:
        """Return the answer."""
        kind = {429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code},
        }


@dataclass(frozen=True)
class Generate:
    """A request for text.

    Args:
        model: its name.
        prompts: texts, or one list of messages.
        choices: how many texts are wanted for each prompt.
        stream: the text is wanted piece by piece.
        with_usage: a stream is to end with the numbers of tokens.
        stop: texts at which the answer ends; they are no part of it.
        max_tokens: how many pieces the answer may have; None: any number.
        options: everything else that the request says.
    """

    model: str
    prompts: tuple[Any, ...]
    choices: int
    stream: bool
    with_usage: bool
    stop: tuple[str, ...]
    max_tokens: int | None
    options: dict[str, Any]


@dataclass(frozen=True)
class Embed:
    """A request for embeddings.

    Args:
        model: its name.
        texts: what is to be embedded.
        as_base64: vectors are wanted as 32-bit floats in base64, rather than as lists.
        options: everything else that the request says.
    """

    model: str
    texts: tuple[str, ...]
    as_base64: bool
    options: dict[str, Any]


def generate_request(body: bytes, is_chat: bool) -> Generate:
    """Return what a request for text asks for.

    Args:
        body: of the request.
        is_chat: it has messages, rather than a prompt.

    Raises:
        RequestError: it is wrong.
    """
    found = _object(body)
    stream_options = _field(found, "stream_options", dict, {})
    limit = _field(found, "max_completion_tokens", int, None)
    if limit is None:
        limit = _field(found, "max_tokens", int, None)
    if limit is not None and limit < 1:
        raise RequestError(f"max_tokens is at least 1, got {limit}", param="max_tokens")
    choices = _field(found, "n", int, 1)
    prompts = _messages(found) if is_chat else _texts(found, "prompt")
    if not 1 <= choices * len(prompts) <= _MOST_CHOICES:
        raise RequestError(f"n must be from 1, with {_MOST_CHOICES} choices in all at most", param="n")
    stop = found.get("stop") or ()
    if isinstance(stop, str):
        stop = (stop,)
    if not isinstance(stop, list | tuple) or not all(isinstance(one, str) and one for one in stop):
        raise RequestError("stop is a text or a list of texts that are not empty", param="stop")
    return Generate(
        _field(found, "model", str), prompts, choices, _field(found, "stream", bool, False),
        bool(stream_options.get("include_usage")), tuple(stop), limit, _others(found),
    )  # fmt: skip


def embed_request(body: bytes) -> Embed:
    """Return what a request for embeddings asks for.

    Raises:
        RequestError: it is wrong.
    """
    found = _object(body)
    encoding = found.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise RequestError(f"encoding_format is float or base64, got {encoding!r}", param="encoding_format")
    texts = _texts(found, "input")
    if not texts:
        raise RequestError("input is empty", param="input")
    return Embed(_field(found, "model", str), texts, encoding == "base64", _others(found))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestError("the body is not a JSON object")
    return found


_MISSING = object()


def _field(found: Mapping[str, Any], name: str, kind: type, default: Any = _MISSING) -> Any:
    value = found.get(name)
    if value is None and default is not _MISSING:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(f"{name} must be of type {kind.__name__}, got {value!r:.80}", param=name)
    return value


def _others(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in _OWN and value is not None}


def _texts(found: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = found.get(name)
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
        raise RequestError(
            f"{name} is a text or a list of texts; numbers of tokens are not taken", param=name
        )
    return tuple(texts)


def _messages(found: Mapping[str, Any]) -> tuple[Any, ...]:
    value = found.get("messages")
    if not isinstance(value, list) or not value:
        raise RequestError("messages is a list of messages that is not empty", param="messages")
    for number, one in enumerate(value):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise RequestError(
                f"messages[{number}] is an object with a role and a content", param=f"messages[{number}]"
            )
    return ([{**one, "content": _joined(one.get("content"))} for one in value],)


def _joined(content: Any) -> Any:
    """Return the text of a content that consists of parts of text; any other content as it is."""
    if isinstance(content, list) and all(
        isinstance(one, dict) and one.get("type") == "text" and isinstance(one.get("text"), str)
        for one in content
    ):
        return "".join(one["text"] for one in content)
    return content


class Text:
    """One answer, as its pieces come: ends at a stop sequence or at the greatest number of pieces.

    Args:
        stop: stop sequences.
        max_tokens: how many pieces there may be; None: any number.
    """

    def __init__(self, stop: Sequence[str] = (), max_tokens: int | None = None) -> None:
        self._stop = stop
        self._max = max_tokens
        #: Text that may be the beginning of a stop sequence.
        self._held = ""
        #: How many pieces came.
        self.pieces = 0
        #: Why it ended, in OpenAI's words: "stop" or "length"; None: it has not.
        self.finish_reason: str | None = None

    def add(self, piece: str) -> str:
        """Take the next piece; return the text that is certain now."""
        self.pieces += 1
        text = self._held + piece
        ends = [at for at in (text.find(one) for one in self._stop) if at >= 0]
        if ends:
            self._held, self.finish_reason = "", "stop"
            return text[: min(ends)]
        if self._max is not None and self.pieces >= self._max:
            self._held, self.finish_reason = "", "length"
            return text
        held = max((_overlap(text, one) for one in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> str:
        """The model has no more pieces; return the text that is left."""
        rest, self._held = self._held, ""
        self.finish_reason = self.finish_reason or "stop"
        return rest


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text are the beginning of a stop sequence."""
    return next(
        (size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0
    )


class Answers:
    """Builds the answers to one request for text.

    Args:
        request_id: of the request.
        created: seconds of the wall clock.
        model: its name.
        is_chat: the request has messages.
    """

    def __init__(self, request_id: str, created: int, model: str, is_chat: bool) -> None:
        self._is_chat = is_chat
        self._head = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{request_id}",
            "created": created,
            "model": model,
        }

    def whole(self, texts: Sequence[tuple[str, str]], usage: dict[str, int] | None) -> dict[str, Any]:
        """Return the answer that has all texts, each with the reason why it ended."""
        choices = []
        for index, (text, reason) in enumerate(texts):
            content = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"text": text}
            choices.append({"index": index, **content, "logprobs": None, "finish_reason": reason})
        kind = "chat.completion" if self._is_chat else "text_completion"
        answer = {**self._head, "object": kind, "choices": choices}
        return answer if usage is None else {**answer, "usage": usage}

    def chunk(self, index: int, text: str, reason: str | None, is_first: bool = False) -> dict[str, Any]:
        """Return a part of a stream: text of one choice, or the reason why it ended."""
        content: dict[str, Any] = {"text": text}
        if self._is_chat:
            delta = {"role": "assistant", "content": text} if is_first else {"content": text}
            content = {"delta": {} if reason is not None and not text else delta}
        choice = {"index": index, **content, "logprobs": None, "finish_reason": reason}
        return {**self._head, "object": self._kind_of_chunks, "choices": [choice]}

    def last_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Return the part of a stream that has the numbers of tokens."""
        return {**self._head, "object": self._kind_of_chunks, "choices": [], "usage": usage}

    @property
    def _kind_of_chunks(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"


def usage_of(prompt: int, completion: int | None = None) -> dict[str, int]:
    """Return the numbers of tokens of a request, as answers have them."""
    if completion is None:
        return {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def embeddings(
    model: str, vectors: Sequence[Any], as_base64: bool, usage: dict[str, int] | None
) -> dict[str, Any]:
    """Return the answer that has vectors.

    Args:
        model: its name.
        vectors: arrays or lists of numbers.
        as_base64: see ``Embed``.
        usage: the numbers of tokens, if they are known.
    """
    data = []
    for index, vector in enumerate(vectors):
        numbers = vector.tolist() if hasattr(vector, "tolist") else list(vector)
        packed: Any = numbers
        if as_base64:
            packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed})
    answer = {"object": "list", "data": data, "model": model}
    return answer if usage is None else {**answer, "usage": usage}


# Made once: json.dumps makes one for every call with such options.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event(data: Any) -> bytes:
    """Return a server-sent event."""
    return f"data: {_encode(data)}\n\n".encode()


#: The event after the last.
DONE = b"data: [DONE]\n\n"
