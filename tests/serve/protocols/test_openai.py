"""OpenAI's requests and answers: checks, stop sequences across pieces, shapes."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skate.serve._protocols.openai import (
    Answers,
    RequestError,
    Text,
    embed_request,
    embeddings,
    event,
    generate_request,
    usage_of,
)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def chat(**fields: Any) -> bytes:
    return body(**{"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields})


def test_a_chat_request() -> None:
    found = generate_request(
        chat(temperature=0.5, top_p=None, max_tokens=9, max_completion_tokens=7, stop="END", stream=True,
             stream_options={"include_usage": True}), True
    )  # fmt: skip
    assert found.prompts == ([{"role": "user", "content": "hello"}],)
    assert (found.choices, found.stream, found.with_usage, found.stop) == (1, True, True, ("END",))
    assert found.max_tokens == 7
    assert found.options == {"temperature": 0.5}


def test_contents_of_parts_of_text_become_texts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    picture = [{"type": "image_url", "image_url": {"url": "data:"}}]
    found = generate_request(
        chat(messages=[{"role": "user", "content": parts}, {"role": "user", "content": picture}]), True
    )
    (messages,) = found.prompts
    assert [one["content"] for one in messages] == ["ab", picture]


def test_prompts_and_inputs_are_one_or_several() -> None:
    assert generate_request(body(model="m", prompt="a"), False).prompts == ("a",)
    assert generate_request(body(model="m", prompt=["a", "b"], n=2), False).prompts == ("a", "b")
    assert embed_request(body(model="m", input="a")).texts == ("a",)
    asked = embed_request(body(model="m", input=["a", "b"], encoding_format="base64", dimensions=3))
    assert (asked.texts, asked.as_base64, asked.options) == (("a", "b"), True, {"dimensions": 3})


@pytest.mark.parametrize(
    ("request_body", "param"),
    [
        (b"{", None), (b"[]", None), (chat(model=3), "model"), (chat(messages=[]), "messages"),
        (chat(messages=["hello"]), "messages[0]"), (chat(n=0), "n"), (chat(n=1000), "n"), (chat(n=True), "n"),
        (chat(max_tokens=0), "max_tokens"), (chat(stop=[""]), "stop"), (chat(stop=3), "stop"),
        (chat(stream="yes"), "stream"), (chat(stream_options=[]), "stream_options"),
    ],
)  # fmt: skip
def test_wrong_requests_name_the_field(request_body: bytes, param: str | None) -> None:
    with pytest.raises(RequestError) as raised:
        generate_request(request_body, True)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert raised.value.body()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("given", [[1, 2], [], None, {"a": 1}])
def test_wrong_inputs(given: Any) -> None:
    with pytest.raises(RequestError) as raised:
        embed_request(body(model="m", input=given))
    assert raised.value.param == "input"


def test_a_stop_sequence_in_several_pieces_is_never_sent() -> None:
    text = Text(stop=["</s>", "END"])
    assert [text.add(piece) for piece in ("one <", "/", "b> E", "N", "D two")] == [
        "one ",
        "",
        "</b> ",
        "",
        "",
    ]
    assert (text.finish_reason, text.end(), text.pieces) == ("stop", "", 5)


def test_text_that_only_looked_like_a_stop_sequence_is_sent_at_the_end() -> None:
    text = Text(stop=["END"])
    assert text.add("the E") == "the "
    assert text.end() == "E"
    assert text.finish_reason == "stop"


def test_the_greatest_number_of_pieces() -> None:
    text = Text(max_tokens=2, stop=["cd"])
    assert (text.add("a"), text.finish_reason) == ("a", None)
    assert (text.add("c"), text.finish_reason) == ("c", "length")


@given(
    st.lists(st.text("abX", max_size=4), max_size=12),
    st.lists(st.text("abX", min_size=1, max_size=3), max_size=3),
)
def test_pieces_make_the_text_up_to_the_first_stop_sequence(pieces: list[str], stop: list[str]) -> None:
    text, sent = Text(stop=stop), ""
    for piece in pieces:
        sent += text.add(piece)
        if text.finish_reason:
            break
    sent += text.end()
    whole = "".join(pieces)
    # Which sequence ends first: the text that ends it does, as pieces come; of those, the one that begins first.
    ends = [at + len(one) for one in stop if (at := whole.find(one)) >= 0]
    if not ends:
        assert sent == whole
    else:
        assert whole.startswith(sent)
        assert not any(one in sent for one in stop)
        assert any(whole.startswith(one, len(sent)) for one in stop)


def test_answers_and_chunks() -> None:
    answers = Answers("r1", 7, "m", is_chat=True)
    whole = answers.whole([("hello", "stop")], usage_of(3, 2))
    assert whole == {
        "id": "chatcmpl-r1", "created": 7, "model": "m", "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "logprobs": None,
                     "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }  # fmt: skip
    assert answers.chunk(1, "he", None, is_first=True)["choices"][0]["delta"] == {
        "role": "assistant",
        "content": "he",
    }
    assert answers.chunk(1, "", "stop")["choices"][0] == {
        "index": 1, "delta": {}, "logprobs": None, "finish_reason": "stop",
    }  # fmt: skip
    assert answers.last_chunk(usage_of(3, 2))["choices"] == []
    plain = Answers("r1", 7, "m", is_chat=False)
    assert "usage" not in plain.whole([("a", "length")], None)
    assert plain.chunk(0, "a", None)["choices"][0]["text"] == "a"
    assert plain.chunk(0, "a", None)["object"] == "text_completion"


def test_embeddings_as_numbers_and_as_bytes() -> None:
    found = embeddings("m", [[1.0, 0.5]], False, usage_of(4))
    assert found["data"] == [{"object": "embedding", "index": 0, "embedding": [1.0, 0.5]}]
    assert found["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert embeddings("m", [[1.0]], True, None)["data"][0]["embedding"] == "AACAPw=="


def test_an_event_is_one_line() -> None:
    assert event({"text": "a\nü"}) == 'data: {"text":"a\\nü"}\n\n'.encode()


def test_errors_travel_and_name_their_kind() -> None:
    error = pickle.loads(pickle.dumps(RequestError("too long", 429, "messages", "long")))
    assert error.body() == {
        "error": {"message": "too long", "type": "rate_limit_error", "param": "messages", "code": "long"},
    }  # fmt: skip
    assert RequestError("x", 500).body()["error"]["type"] == "server_error"
