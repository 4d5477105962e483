"""``openai_app`` with OpenAI's own client: texts, streams, embeddings, errors, clients that go."""

from __future__ import annotations

import asyncio
import http.client
import json
import select
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from skate import serve
from skate.serve.openai import RequestError, openai_app

from .conftest import Web

openai = pytest.importorskip("openai")
Wait = Callable[[Callable[[], object]], None]


@serve.deployment
class Parrot:
    """Says what it hears, word by word."""

    def __init__(self) -> None:
        self.running = 0
        self.asked: dict[str, Any] = {}

    async def generate(self, prompt: Any, temperature: float = 1.0, max_tokens: int | None = None) -> Any:
        self.asked = {"temperature": temperature, "max_tokens": max_tokens}
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        if text == "refuse":
            raise RequestError("not that", param="messages")
        if text == "break":
            raise KeyError("a secret")
        self.running += 1
        try:
            for word in text.split():
                if word == "wait":
                    await asyncio.Event().wait()
                if word == "break":
                    raise KeyError("a secret")
                yield f"{word} "
        finally:
            self.running -= 1

    def count_tokens(self, prompt: Any) -> int:
        return len((prompt if isinstance(prompt, str) else prompt[-1]["content"]).split())

    def is_running(self) -> int:
        return self.running

    def was_asked(self) -> dict[str, Any]:
        return self.asked


@serve.deployment
class Lengths:
    """Embeds texts, several requests in one batch; it generates nothing, and counts no tokens."""

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.05)
    async def embed(self, texts: list[str]) -> list[Any]:
        return [np.array([len(text), len(texts)], np.float32) for text in texts]


@serve.deployment
class Whole:
    """A model whose method is no generator, and whose embeddings are no batches."""

    def generate(self, prompt: str) -> str:
        return prompt.upper()

    def embed(self, texts: list[str], dimensions: int = 2) -> list[list[float]]:
        return [[float(len(text))] * dimensions for text in texts]


def hear(text: str) -> list[Any]:
    return [{"role": "system", "content": "repeat"}, {"role": "user", "content": text}]


@pytest.fixture
def client(web: Web) -> Iterator[Any]:
    models = {"parrot": Parrot.bind(), "lengths": Lengths.bind(), "whole": Whole.bind()}
    serve.run(openai_app(models), route_prefix="/ai")
    with openai.OpenAI(base_url=f"{web.address}/ai/v1", api_key="none", max_retries=0) as client:
        yield client


def test_texts_streams_and_embeddings(client: Any) -> None:
    assert [one.id for one in client.models.list()] == ["parrot", "lengths", "whole"]
    assert client.models.retrieve("whole").object == "model"

    found = client.chat.completions.create(model="parrot", messages=hear("one two"), temperature=0.25)
    assert found.choices[0].message.content == "one two "
    assert found.choices[0].finish_reason == "stop"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (2, 2, 4)
    handle = serve.get_deployment_handle("Parrot", "default")
    assert handle.was_asked.remote().result() == {"temperature": 0.25, "max_tokens": None}

    found = client.chat.completions.create(
        model="parrot", messages=hear("one two three"), max_completion_tokens=2, n=2
    )
    assert [(one.message.content, one.finish_reason) for one in found.choices] == [("one two ", "length")] * 2
    assert handle.was_asked.remote().result()["max_tokens"] == 2

    found = client.completions.create(model="parrot", prompt=["a b", "c stop d"], stop=["stop"])
    assert [(one.index, one.text) for one in found.choices] == [(0, "a b "), (1, "c ")]
    assert client.completions.create(model="whole", prompt="a").choices[0].text == "A"

    stream = client.chat.completions.create(
        model="parrot", messages=hear("one two"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert [one.choices[0].delta.content for one in chunks if one.choices] == ["one ", "two ", None]
    assert [one.choices[0].finish_reason for one in chunks if one.choices] == [None, None, "stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.total_tokens == 4
    assert {one.id for one in chunks} == {chunks[0].id}

    parts: dict[int, str] = {0: "", 1: ""}
    for one in client.completions.create(model="parrot", prompt=["a b", "c d"], stream=True):
        parts[one.choices[0].index] += one.choices[0].text
    assert parts == {0: "a b ", 1: "c d "}

    found = client.embeddings.create(model="lengths", input=["a", "bcd"])
    assert [one.embedding for one in found.data] == [[1.0, 2.0], [3.0, 2.0]]
    found = client.embeddings.create(model="whole", input="abc", dimensions=3, encoding_format="float")
    assert found.data[0].embedding == [3.0, 3.0, 3.0]


def test_errors_have_openai_s_shape(client: Any, web: Web) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'x' here") as missing:
        client.chat.completions.create(model="x", messages=hear("a"))
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="not that") as refused:
        client.chat.completions.create(model="parrot", messages=hear("refuse"))
    assert refused.value.param == "messages"
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as failed:
            client.chat.completions.create(model="parrot", messages=hear("break"), stream=stream)
        assert "secret" not in str(failed.value)
    with pytest.raises(openai.APIError, match="the model failed"):
        # The status was sent with the first word.
        list(client.chat.completions.create(model="parrot", messages=hear("a break"), stream=True))
    with pytest.raises(openai.BadRequestError, match=r"has no embed\(\)"):
        client.embeddings.create(model="parrot", input="a")
    assert web("/ai/v1/nothing", b"{}").json()["error"]["code"] == "unknown_url"
    assert web("/ai/v1/models", b"{}").status == 405
    assert web("/ai/v1/completions", b"{").status == 400
    assert web("/ai/v1/completions", b"{").headers["content-type"] == "application/json"


def test_a_client_that_goes_ends_its_generation(client: Any, web: Web, wait_until: Wait) -> None:
    handle = serve.get_deployment_handle("Parrot", "default")
    for stream in (False, True):
        connection = http.client.HTTPConnection(web.host, web.port)
        body = {"model": "parrot", "messages": hear("one wait"), "stream": stream}
        connection.request("POST", "/ai/v1/chat/completions", json.dumps(body))
        wait_until(lambda: handle.is_running.remote().result() == 1)
        if stream:
            assert connection.getresponse().readline().startswith(b"data: {")
        connection.close()
        wait_until(lambda: handle.is_running.remote().result() == 0)
    # So does a stop sequence.
    found = client.completions.create(model="parrot", prompt="one two wait", stop="two")
    assert found.choices[0].text == "one "
    wait_until(lambda: handle.is_running.remote().result() == 0)


def test_a_full_model_is_an_error_that_clients_retry(web: Web) -> None:
    full = Parrot.options(max_ongoing_requests=1, max_queued_requests=1)
    serve.run(openai_app({"parrot": full.bind()}))
    # After an answer, the entrance knows the limit.
    assert web("/v1/completions", json.dumps({"model": "parrot", "prompt": "a"}).encode()).status == 200
    connections = [http.client.HTTPConnection(web.host, web.port) for _ in range(3)]
    for one in connections:
        one.request("POST", "/v1/completions", json.dumps({"model": "parrot", "prompt": "wait"}))
    # One runs, one waits, in whatever order they came.
    ((refused,), _, _) = select.select([one.sock for one in connections], [], [], 60)
    (connection,) = [one for one in connections if one.sock is refused]
    answer = connection.getresponse()
    assert answer.status == 503
    error = json.loads(answer.read())["error"]
    assert error["type"] == "server_error"
    assert "backpressure" in error["message"]
    for one in connections:
        one.close()


def test_what_is_no_model_is_refused() -> None:
    @serve.deployment
    class Nothing:
        pass

    @serve.deployment
    def function() -> None:
        pass

    with pytest.raises(TypeError, match=r"neither a method generate\(prompt\)"):
        openai_app({"x": Nothing.bind()})
    with pytest.raises(TypeError, match=r"neither a method generate\(prompt\)"):
        openai_app({"x": function.bind()})
    with pytest.raises(TypeError, match="is no Application"):
        openai_app({"x": Nothing})  # type: ignore[dict-item]
