"""OpenAI's HTTP API over your own models: ``openai_app``."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from skate.serve._protocols import openai as protocol
from skate.serve._protocols.failures import cause_of, status_of
from skate.serve._protocols.openai import RequestError
from skate.serve.batching import is_batched, is_continuous
from skate.serve.context import request as current_request
from skate.serve.deployment import Application, deployment
from skate.serve.exceptions import BackPressureError

__all__ = ["RequestError", "openai_app"]

logger = logging.getLogger("skate.serve")


def openai_app(models: Mapping[str, Application], **options: Any) -> Application:
    """Return an application that speaks OpenAI's HTTP API over models of yours.

    It answers ``/v1/models``, and, as far as the models' classes have the methods:

    - ``generate(prompt, **params)``, a generator of pieces of text, for ``/v1/chat/completions``, where the
      prompt is a list of messages, and ``/v1/completions``, where it is a text. A piece counts as a token.
      Or a batched loop with a ``BatchStream``, whose items have the prompt as ``value`` and all params in
      ``kwargs``.
    - ``embed(texts)``, which returns a vector for each text, for ``/v1/embeddings``. With ``@serve.batch``
      the texts of several requests are one batch.
    - ``count_tokens(prompt)``, for ``usage``. Without it, answers have none.

    ``params`` are the fields of the request that the method has parameters for, such as ``temperature``. The
    application itself sees to ``stop``, ``n``, ``max_tokens``, streams and errors. A client that closes its
    connection cancels the generator.

    Args:
        models: the name by which clients ask for it, and what ``bind`` returned.
        options: of the entrance, as in ``@serve.deployment``; it runs 1,000 requests at a time by default.

    Raises:
        TypeError: a model is no class with one of the methods.

    Example:
        >>> @serve.deployment
        ... class Echo:
        ...     async def generate(self, prompt, temperature=1.0):
        ...         for word in prompt[-1]["content"].split():
        ...             yield word + " "
        >>> serve.run(openai_app({"echo": Echo.bind()}))
    """
    described = {name: _describe(name, one) for name, one in models.items()}
    entrance: Any = deployment(**{"name": "OpenAI", "max_ongoing_requests": 1000, **options})(_Entrance)
    return entrance.bind(dict(models), described)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Method:
    """A method of a model.

    Args:
        parameters: the names that it takes besides the prompt; None: all.
        is_stream: it is a generator.
        is_batched: it takes one item, and runs with lists.
    """

    parameters: frozenset[str] | None
    is_stream: bool
    is_batched: bool

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a request's fields that the method takes."""
        return {key: one for key, one in given.items() if self.parameters is None or key in self.parameters}


def _describe(name: str, model: Application) -> dict[str, _Method]:
    """Return the methods of a model that are used, by name."""
    if not isinstance(model, Application):
        raise TypeError(f"the model {name!r} is no Application: give what bind() returned, got {model!r:.80}")
    made = model._deployment.func_or_class
    names = ("generate", "embed", "count_tokens")
    found = {one: _method(getattr(made, one)) for one in names if hasattr(made, one)}
    if not inspect.isclass(made) or not found.keys() & {"generate", "embed"}:
        raise TypeError(
            f"the model {name!r} ({made.__name__}) has neither a method generate(prompt), which yields "
            "pieces of text, nor embed(texts), which returns vectors"
        )
    return found


def _method(function: Any) -> _Method:
    code = inspect.unwrap(function)
    # Without ``self`` and the prompt.
    parameters = [*inspect.signature(code).parameters.values()][2:]
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
    if is_continuous(function):  # the parameters are of the items
        return _Method(None, True, True)
    names = None if takes_all else frozenset(one.name for one in parameters)
    is_stream = inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)
    return _Method(names, is_stream, is_batched(function))


class _Entrance:
    """The deployment that clients talk to.

    Args:
        models: name to handle.
        described: name to the model's methods.
    """

    def __init__(self, models: dict[str, Any], described: dict[str, dict[str, _Method]]) -> None:
        self._models = models
        self._described = described
        self._created = int(time.time())

    async def __call__(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        try:
            return await self._route(request)
        except Exception as raised:
            error, cause = _as_request_error(raised), cause_of(raised)
            retry = cause.retry_after_s if isinstance(cause, BackPressureError) else None
            headers = None if retry is None else {"retry-after": f"{math.ceil(retry)}"}
            return JSONResponse(error.body(), error.status, headers)

    async def _route(self, request: Any) -> Any:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if path == "/v1/models" or path.startswith("/v1/models/"):
            _allow(request, "GET")
            return self._list(path.removeprefix("/v1/models").removeprefix("/"))
        kinds = {"/v1/chat/completions": True, "/v1/completions": False}
        if path in kinds:
            _allow(request, "POST")
            return await self._generate(
                protocol.generate_request(await request.body(), kinds[path]), kinds[path]
            )
        if path == "/v1/embeddings":
            _allow(request, "POST")
            return await self._embed(protocol.embed_request(await request.body()))
        raise RequestError(f"there is no {path} here", 404, code="unknown_url")

    def _list(self, name: str) -> dict[str, Any]:
        def entry(one: str) -> dict[str, Any]:
            return {"id": one, "object": "model", "created": self._created, "owned_by": "skate.serve"}

        if not name:
            return {"object": "list", "data": [entry(one) for one in self._models]}
        self._check_model(name)
        return entry(name)

    def _check_model(self, name: str) -> None:
        if name not in self._models:
            raise RequestError(
                f"there is no model {name!r} here; there are {', '.join(self._models)}",
                404, param="model", code="model_not_found",
            )  # fmt: skip

    def _method_of(self, model: str, name: str) -> tuple[Any, _Method]:
        """Return a handle of a model's method, and the method."""
        self._check_model(model)
        method = self._described[model].get(name)
        if method is None:
            raise RequestError(f"the model {model!r} has no {name}()", param="model", code="unsupported")
        return self._models[model].options(method_name=name, stream=method.is_stream), method

    # ------------------------------------------------------------------ embeddings

    async def _embed(self, asked: protocol.Embed) -> dict[str, Any]:
        handle, method = self._method_of(asked.model, "embed")
        options = method.options(asked.options)
        if method.is_batched:
            vectors = await asyncio.gather(*(handle.remote(text, **options) for text in asked.texts))
        else:
            vectors = await handle.remote(list(asked.texts), **options)
        if len(vectors) != len(asked.texts):
            raise TypeError(
                f"embed() of {asked.model} returned {len(vectors)} vectors for {len(asked.texts)} texts"
            )
        tokens = await self._count(asked.model, asked.texts)
        usage = None if tokens is None else protocol.usage_of(tokens)
        return protocol.embeddings(asked.model, vectors, asked.as_base64, usage)

    async def _count(self, model: str, prompts: tuple[Any, ...]) -> int | None:
        """Return the number of tokens of prompts; None: the model does not count."""
        if "count_tokens" not in self._described[model]:
            return None
        handle = self._models[model].count_tokens
        counts: list[int] = await asyncio.gather(*(handle.remote(one) for one in prompts))
        return sum(counts)

    # ------------------------------------------------------------------ texts

    async def _generate(self, asked: protocol.Generate, is_chat: bool) -> Any:
        self._method_of(asked.model, "generate")
        prompts = [one for one in asked.prompts for _ in range(asked.choices)]
        texts = [protocol.Text(asked.stop, asked.max_tokens) for _ in prompts]
        answers = protocol.Answers(current_request.get().request_id, int(time.time()), asked.model, is_chat)
        pieces = [self._pieces(asked, prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        if asked.stream:
            from starlette.responses import StreamingResponse

            events = self._events(asked, answers, pieces, texts)
            first = await anext(events)  # an error before the first piece has a status of its own
            return StreamingResponse(_chain(first, events), media_type="text/event-stream")
        parts: list[list[str]] = [[] for _ in pieces]
        async for index, piece in _merged(pieces):
            parts[index].append(piece or "")
        found = [("".join(part), str(text.finish_reason)) for part, text in zip(parts, texts, strict=True)]
        return answers.whole(found, await self._usage(asked, texts))

    async def _pieces(
        self, asked: protocol.Generate, prompt: Any, text: protocol.Text
    ) -> AsyncGenerator[str, None]:
        """Yield the text of one choice as it comes."""
        handle, method = self._method_of(asked.model, "generate")
        given = dict(asked.options)
        if asked.max_tokens is not None:
            given["max_tokens"] = asked.max_tokens
        if asked.stop:
            given["stop"] = list(asked.stop)
        response = handle.remote(prompt, **method.options(given))
        is_over = False
        try:
            if method.is_stream:
                async for piece in response:
                    if certain := text.add(piece):
                        yield certain
                    if text.finish_reason is not None:
                        break
                else:
                    is_over = True
            else:
                if certain := text.add(await response):
                    yield certain
                is_over = True
            if rest := text.end():
                yield rest
        finally:
            if not is_over:
                response.cancel()

    async def _events(
        self,
        asked: protocol.Generate,
        answers: protocol.Answers,
        pieces: list[AsyncGenerator[str, None]],
        texts: list[protocol.Text],
    ) -> AsyncIterator[bytes]:
        started: set[int] = set()
        try:
            async for index, piece in _merged(pieces):
                if piece is None:
                    yield protocol.event(answers.chunk(index, "", texts[index].finish_reason))
                else:
                    yield protocol.event(answers.chunk(index, piece, None, index not in started))
                    started.add(index)
        except Exception as raised:
            if not started:
                raise
            # The status has been sent; the error is an event.
            yield protocol.event(_as_request_error(raised).body())
            return
        if asked.with_usage and (usage := await self._usage(asked, texts)) is not None:
            yield protocol.event(answers.last_chunk(usage))
        yield protocol.DONE

    async def _usage(self, asked: protocol.Generate, texts: list[protocol.Text]) -> dict[str, int] | None:
        tokens = await self._count(asked.model, asked.prompts)
        return None if tokens is None else protocol.usage_of(tokens, sum(text.pieces for text in texts))


def _allow(request: Any, method: str) -> None:
    if request.method != method:
        raise RequestError(f"{request.scope['path']} takes {method}, not {request.method}", 405)


def _as_request_error(raised: Exception) -> RequestError:
    """Return what a client learns of an error. One of the model's is logged: its text may be no client's
    business."""
    error = cause_of(raised)
    if isinstance(error, RequestError):
        return error
    status, request_id = status_of(error), current_request.get().request_id
    if status is not None:
        return RequestError(f"{error} (Request {request_id})", status)
    if error is raised:  # else the replica that ran it has written it already
        logger.error("request %s failed", request_id, exc_info=raised)
    return RequestError(f"the model failed; its log has more of request {request_id}", 500)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for one in rest:
        yield one


async def _merged(streams: list[AsyncGenerator[str, None]]) -> AsyncIterator[tuple[int, str | None]]:
    """Yield the items of several streams as they come, each with its stream's index, and None at its end."""
    if len(streams) == 1:  # the usual case, which needs no task and no queue
        async with contextlib.aclosing(streams[0]) as stream:
            async for piece in stream:
                yield 0, piece
        yield 0, None
        return
    items: asyncio.Queue[tuple[int, str | None, Exception | None]] = asyncio.Queue(maxsize=16)

    async def read(index: int, stream: AsyncGenerator[str, None]) -> None:
        try:
            async with contextlib.aclosing(stream):
                async for item in stream:
                    await items.put((index, item, None))
            await items.put((index, None, None))
        except Exception as error:
            await items.put((index, None, error))

    tasks = [asyncio.create_task(read(index, stream)) for index, stream in enumerate(streams)]
    running = len(tasks)
    try:
        while running:
            index, item, error = await items.get()
            if error is not None:
                raise error
            running -= item is None
            yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
