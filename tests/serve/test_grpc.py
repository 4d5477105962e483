"""gRPC: answers, streams, contexts, errors, deadlines, cancelling, keys, updates."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from serve.grpc_service import NAME, Text, WordsStub

import skate
from skate import serve
from skate.serve import _deploy, _instance
from skate.serve._grpc import api_service, calls
from skate.serve._messages import Route
from skate.serve.config import ValidationError, gRPCOptions
from skate.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestTimeoutError,
    gRPCStatusError,
)
from skate.serve.generated import serve_pb2, serve_pb2_grpc
from skate.serve.grpc_util import RayServegRPCContext, gRPCInputStream
from skate.serve.schema import ServeDeploySchema, gRPCOptionsSchema
from skate.util.state import list_actors

from .conftest import session as started

Wait = Callable[[Callable[[], object]], None]
FUNCTION = "serve.grpc_service.add_WordsServicer_to_server"
LIST, HEALTHZ = "/ray.serve.RayServeAPIService/ListApplications", "/ray.serve.RayServeAPIService/Healthz"


# ---------------------------------------------------------------------- decisions


def test_errors_have_codes() -> None:
    for error, code in (
        (BackPressureError(1, 1), "RESOURCE_EXHAUSTED"),
        (RequestTimeoutError("r"), "DEADLINE_EXCEEDED"),
        (DeploymentUnavailableError("d"), "UNAVAILABLE"),
        (ReplicaUnavailableError("r"), "UNAVAILABLE"),
        (KeyError("k"), "INTERNAL"),
    ):
        assert calls.outcome_of(error).code == code
    assert calls.outcome_of(RuntimeError("gone"), is_death=True).code == "UNAVAILABLE"
    assert calls.outcome_of(ValueError("a reason")).details == "a reason"
    assert calls.outcome_of(ValueError()).details == "ValueError"
    assert len(calls.outcome_of(ValueError("x" * 100_000)).details) < 5000
    assert calls.outcome_of(BackPressureError(1, 1, 503, 0.25)).trailing == (
        ("grpc-retry-pushback-ms", "250"),
    )


def test_codes_that_blame_the_server_judge_a_version() -> None:
    statuses = {
        code: calls.Outcome(code).http_status for code in ("OK", "NOT_FOUND", "INTERNAL", "UNAVAILABLE")
    }
    assert statuses == {"OK": 200, "NOT_FOUND": 400, "INTERNAL": 500, "UNAVAILABLE": 500}


def test_an_application_is_chosen_by_its_name() -> None:
    one, two = Route("/", "one", "A"), Route("/two", "two", "B")
    assert calls.application_of("", [one]) is one
    assert calls.application_of("two", [one, two]) is two
    for name, routes in (("", [one, two]), ("", []), ("three", [one])):
        found = calls.application_of(name, routes)
        assert isinstance(found, str)
        assert "application" in found


def test_the_last_value_of_a_key_counts() -> None:
    metadata = (("a", "1"), ("b-bin", b"2"), ("a", "3"))
    assert calls.value_of(metadata, "a") == "3"
    assert calls.value_of(metadata, "b-bin", "c") == ""


def test_answers_of_rays_service_are_protobuf() -> None:
    assert api_service.applications([]) == b""
    assert api_service.health("success") == b"\x0a\x07success"
    long = "ä" * 100  # 200 bytes: two bytes of length
    assert Text.FromString(api_service.applications([long])).text == long


def test_options_are_checked() -> None:
    assert gRPCOptions().port == 9000
    assert gRPCOptionsSchema is gRPCOptions
    for wrong in ({"port": -1}, {"grpc_servicer_functions": "a.b"}, {"grpc_servicer_functions": [1]},
                  {"request_timeout_s": "1"}, {"enable_reflection": 1}):  # fmt: skip
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            gRPCOptions(**wrong)  # type: ignore[arg-type]
    (function,) = gRPCOptions(grpc_servicer_functions=[FUNCTION]).grpc_servicer_func_callable
    assert callable(function)
    with pytest.raises(TypeError, match="grpc_options takes"):
        serve.start(grpc_options=[1])  # type: ignore[arg-type]


def test_config_files_have_them() -> None:
    data = {"applications": [], "grpc_options": {"port": 9001, "grpc_servicer_functions": [FUNCTION]}}
    found = ServeDeploySchema.model_validate(data)
    assert found.grpc_options == gRPCOptions(9001, [FUNCTION])
    assert found.model_dump(exclude_unset=True)["grpc_options"] == data["grpc_options"]
    assert ServeDeploySchema.model_validate({"applications": []}).grpc_options == gRPCOptions()
    with pytest.raises(ValidationError, match="grpc_options: unknown key 'prot'; did you mean 'port'"):
        ServeDeploySchema.model_validate({"applications": [], "grpc_options": {"prot": 1}})


def test_without_grpcio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_instance, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'skate-runtime\[serve-grpc\]'"):
        _instance.open_door(None, gRPCOptions(), serve.HTTPOptions())


def test_serve_and_its_configuration_import_no_grpc() -> None:
    program = (
        "import sys; from skate import serve; import skate.serve.grpc_util, skate.serve.schema, skate.serve.api;"
        "serve.config.gRPCOptions(grpc_servicer_functions=['a.b']); assert 'grpc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_stream_of_a_client_ends_when_it_is_cancelled() -> None:
    async def main() -> None:
        async def numbers() -> AsyncIterator[int]:
            for one in range(3):
                yield one

        stream = gRPCInputStream(numbers())
        assert await anext(stream) == 0
        assert not (stream.is_exhausted or stream.is_cancelled())
        stream.cancel()
        assert [one async for one in stream] == []
        assert stream.is_exhausted
        assert stream.is_cancelled()

    asyncio.run(main())


def test_the_error_with_a_code_is_that_of_user_code() -> None:
    error = gRPCStatusError(KeyError("k"), grpc.StatusCode.NOT_FOUND, "no such key")
    assert str(error) == "'k'"
    assert error.grpc_code is grpc.StatusCode.NOT_FOUND
    assert error.grpc_details == "no such key"


# ---------------------------------------------------------------------- processes


@serve.deployment(max_ongoing_requests=4)
class Words:
    """Answers for the service; counts requests that were cancelled."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.entered = self.cancelled = 0
        self.release = asyncio.Event()

    async def Upper(self, text: Any) -> Any:
        return Text(text=self.name + text.text.upper())

    def Context(self, text: Any, grpc_context: RayServegRPCContext) -> Any:
        if text.text == "facts":
            facts = {
                "peer": grpc_context.peer().partition(":")[0],
                "mine": dict(grpc_context.invocation_metadata()).get("mine"),
                "bytes": dict(grpc_context.invocation_metadata()).get("mine-bin"),
                "authorization": dict(grpc_context.invocation_metadata()).get("authorization"),
                "application": grpc_context.application(),
                "model": (grpc_context.multiplexed_model_id(), serve.get_multiplexed_model_id()),
                "request": grpc_context.request_id(),
                "code": grpc_context.code(),
                "auth": sorted(grpc_context.auth_context()),
            }
            grpc_context.set_trailing_metadata([("mine", "trailing")])
            return Text(text=repr(facts))
        grpc_context.set_code(grpc.StatusCode[text.text])
        grpc_context.set_details("as was set")
        grpc_context.set_trailing_metadata([("why", "it was asked for")])
        if text.number:
            raise KeyError("not seen")
        return Text()

    def Fail(self, text: Any) -> Any:
        if text.text == "type":
            return {"text": "no message"}
        raise ValueError("the reason")

    async def Wait(self, text: Any) -> Any:
        self.entered += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return text

    async def Split(self, text: Any, grpc_context: RayServegRPCContext) -> AsyncIterator[Any]:
        for word in text.text.split():
            yield Text(text=word)
        if text.number:
            grpc_context.set_trailing_metadata([("words", "some")])
            raise ValueError("after the words")

    async def Forever(self, text: Any) -> AsyncIterator[Any]:
        self.entered += 1
        try:
            while True:
                yield text
                await asyncio.sleep(0)
        finally:
            self.cancelled += 1

    async def Join(self, texts: gRPCInputStream[Any]) -> Any:
        return Text(text=" ".join([one.text async for one in texts]))

    async def Echo(self, texts: gRPCInputStream[Any]) -> AsyncIterator[Any]:
        async for one in texts:
            yield one

    def counts(self) -> tuple[int, int]:
        return self.entered, self.cancelled

    def go(self) -> None:
        self._loop.call_soon_threadsafe(self.release.set)

    async def check_health(self) -> None:
        self._loop = asyncio.get_running_loop()


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    """The address of a session that answers gRPC."""
    with started({"port": 0, "grpc_servicer_functions": [FUNCTION]}):
        yield address()


def address() -> str:
    """Return where gRPC is answered."""
    (found,) = (one for one in serve.status().proxies if one.startswith("grpc://"))
    return found.removeprefix("grpc://")


@pytest.fixture
def channel(session: str) -> Iterator[grpc.Channel]:
    """A channel; no application is left afterwards."""
    with grpc.insecure_channel(session) as found:
        yield found
    for name in serve.status().applications:
        serve.delete(name)


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return WordsStub(channel)


def failure(call: Callable[[], object]) -> Any:
    """Return the error of a call."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def trailing(call: Any) -> dict[str, Any]:
    """Return the metadata that followed an answer, or an error."""
    return {one.key: one.value for one in call.trailing_metadata()}


def texts(*words: str) -> Iterator[Any]:
    return iter([Text(text=one) for one in words])


def test_methods_of_all_kinds(stub: Any) -> None:
    serve.run(Words.options(num_replicas=2).bind())
    assert stub.Upper(Text(text="abc")).text == "ABC"
    assert [one.text for one in stub.Split(Text(text="a b c"))] == ["a", "b", "c"]
    assert stub.Join(texts("a", "b", "c")).text == "a b c"
    assert stub.Join(texts()).text == ""
    assert [one.text for one in stub.Echo(texts("a", "b"))] == ["a", "b"]
    many = [str(number) for number in range(200)]
    assert [one.text for one in stub.Echo(texts(*many))] == many


def test_a_stream_in_both_directions_is_a_conversation(stub: Any) -> None:
    serve.run(Words.bind())
    answered = threading.Event()

    def questions() -> Iterator[Any]:
        yield Text(text="first")
        assert answered.wait(60)  # the second is sent after the first was answered
        yield Text(text="second")

    answers = stub.Echo(questions())
    assert next(answers).text == "first"
    answered.set()
    assert [one.text for one in answers] == ["second"]


def test_the_context_has_what_the_client_sent(stub: Any) -> None:
    serve.run(Words.bind())
    metadata = [
        ("mine", "1"),
        ("mine-bin", b"\x00\xff"),
        ("request_id", "r-1"),
        ("multiplexed_model_id", "m-1"),
        ("application", "default"),
        ("authorization", "Basic eDp5"),
    ]
    answer, call = stub.Context.with_call(Text(text="facts"), metadata=metadata)
    assert eval(answer.text) == {
        "peer": "ipv4",
        "mine": "1",
        "bytes": b"\x00\xff",
        "authorization": "Basic eDp5",
        "application": "default",
        "model": ("m-1", "m-1"),
        "request": "r-1",
        "code": None,
        "auth": [],
    }
    assert trailing(call) == {"request_id": "r-1", "mine": "trailing"}
    _, call = stub.Upper.with_call(Text(text="x"))
    assert len(trailing(call)["request_id"]) == 36


def test_a_method_sets_the_status(stub: Any) -> None:
    serve.run(Words.bind())
    for number in (0, 1):  # it returns, or raises
        for code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.DATA_LOSS):
            error = failure(lambda: stub.Context(Text(text=code.name, number=number)))  # noqa: B023
            assert error.code() is code
            assert error.details() == "as was set"
            assert trailing(error)["why"] == "it was asked for"
            assert "request_id" in trailing(error)
    answer, call = stub.Context.with_call(Text(text="OK"))
    assert answer == Text()
    assert call.code() is grpc.StatusCode.OK


def test_errors_of_user_code_are_internal(stub: Any, channel: grpc.Channel) -> None:
    serve.run(Words.bind())
    error = failure(lambda: stub.Fail(Text()))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "the reason")
    assert failure(lambda: stub.Fail(Text(text="type"))).code() is grpc.StatusCode.INTERNAL
    answers = stub.Split(Text(text="a b", number=1))
    assert [next(answers).text, next(answers).text] == ["a", "b"]
    error = failure(lambda: next(answers))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "after the words")
    assert trailing(error)["words"] == "some"
    error = failure(lambda: stub.Missing(Text()))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "'Missing' that does not exist" in error.details()
    unknown = channel.unary_unary(f"/{NAME}/Unknown")
    assert failure(lambda: unknown(b"")).code() is grpc.StatusCode.UNIMPLEMENTED
    garbage = channel.unary_unary(f"/{NAME}/Upper")
    assert failure(lambda: garbage(b"\xff")).code() is grpc.StatusCode.INTERNAL
    assert stub.Upper(Text(text="x")).text == "X"


def test_the_application_is_chosen_by_metadata(stub: Any, channel: grpc.Channel) -> None:
    listed = channel.unary_unary(LIST)
    assert channel.unary_unary(HEALTHZ)(b"") == api_service.health("success")
    assert listed(b"") == b""
    assert failure(lambda: stub.Upper(Text())).code() is grpc.StatusCode.NOT_FOUND
    serve.run(Words.bind("1"), name="one", route_prefix="/1")
    assert stub.Upper(Text(text="x")).text == "1X"
    serve.run(Words.bind("2"), name="two", route_prefix="/2")
    assert listed(b"") == api_service.applications(["one", "two"])
    client = serve_pb2_grpc.RayServeAPIServiceStub(channel)
    found = client.ListApplications(request=serve_pb2.ListApplicationsRequest())
    assert [*found.application_names] == ["one", "two"]
    assert client.Healthz(request=serve_pb2.HealthzRequest()).message == "success"
    for name, text in (("one", "1X"), ("two", "2X")):
        assert stub.Upper(Text(text="x"), metadata=[("application", name)]).text == text
    for metadata in ([], [("application", "three")]):
        error = failure(lambda: stub.Upper(Text(), metadata=metadata))  # noqa: B023
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "there are: one, two." in error.details()
    serve.run(Words.bind("3"), name="three", route_prefix=None)  # by handles only
    assert failure(lambda: stub.Upper(Text(), metadata=[("application", "three")])).code() is (
        grpc.StatusCode.NOT_FOUND
    )


def test_sessions_stay_at_their_replica(stub: Any) -> None:
    @serve.deployment(num_replicas=2)
    class Where:
        async def Upper(self, text: Any) -> Any:
            return Text(text=serve.get_replica_context().replica_tag)

    serve.run(Where.bind())
    for user in range(8):
        found = {stub.Upper(Text(), metadata=[("session_id", str(user))]).text for _ in range(5)}
        assert len(found) == 1


def test_a_client_that_goes_cancels_its_request(stub: Any, wait_until: Wait) -> None:
    @serve.deployment
    class Front:
        def __init__(self, words: Any) -> None:
            self.words = words

        async def Wait(self, text: Any) -> Any:
            return await self.words.Wait.remote(text)

        async def Forever(self, text: Any) -> AsyncIterator[Any]:
            async for one in self.words.options(stream=True).Forever.remote(text):
                yield one

    serve.run(Front.bind(Words.bind()))
    words = serve.get_deployment_handle("Words", "default")
    call = stub.Wait.future(Text())
    wait_until(lambda: words.counts.remote().result() == (1, 0))
    call.cancel()
    wait_until(lambda: words.counts.remote().result() == (1, 1))
    answers = stub.Forever(Text(text="x"))
    assert next(answers).text == "x"
    answers.cancel()
    wait_until(lambda: words.counts.remote().result() == (2, 2))


def test_a_stream_does_not_run_far_ahead_of_its_client(stub: Any, wait_until: Wait) -> None:
    @serve.deployment
    class Fast:
        def __init__(self) -> None:
            self.made = 0

        async def Forever(self, text: Any) -> AsyncIterator[Any]:
            for _ in range(2000):  # without ever waiting
                self.made += 1
                yield Text(text="x" * 20_000)

        async def made_so_far(self) -> int:
            return self.made

    handle = serve.run(Fast.bind())
    answers = stub.Forever(Text())
    next(answers)
    counts: list[int] = []

    def rests() -> bool:
        counts.append(handle.made_so_far.remote().result())
        return len(counts) > 5 and {*counts[-5:]} == {counts[-1]}

    wait_until(rests)
    assert counts[-1] < 1000
    assert sum(1 for _ in answers) == 1999


def test_the_deadline_of_the_client_is_the_requests(stub: Any, wait_until: Wait) -> None:
    handle = serve.run(Words.bind())
    error = failure(lambda: stub.Wait(Text(), timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: handle.counts.remote().result() == (1, 1))

    @serve.deployment
    class Remaining:
        async def Upper(self, text: Any) -> Any:
            from skate.serve import context

            deadline = context.request.get().deadline
            return Text(number=round(deadline - asyncio.get_running_loop().time()) if deadline else -1)

    serve.run(Remaining.bind())
    assert stub.Upper(Text()).number == -1
    assert 900 < stub.Upper(Text(), timeout=1000).number < 1100  # it travels rounded


def test_a_full_queue_refuses(stub: Any, wait_until: Wait) -> None:
    words = Words.options(max_ongoing_requests=1, max_queued_requests=1)
    serve.run(words.bind())
    first = stub.Wait.future(Text(text="1"), metadata=[("request_id", "first")])
    wait_until(lambda: any("runs in replica" in one for one in serve.why("first")))
    waiting = [stub.Wait.future(Text(text="2")) for _ in range(3)]
    wait_until(lambda: sum(one.done() for one in waiting) == 2)
    for one in waiting:
        if one.done():
            assert one.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "max_queued_requests=1" in one.details()
    first.cancel()
    for one in waiting:
        one.cancel()


def test_an_update_under_load_loses_no_call(session: str, channel: grpc.Channel, wait_until: Wait) -> None:
    words = Words.options(num_replicas=2)
    serve.run(words.bind("v0"))
    seen: Counter[str] = Counter()
    errors: list[str] = []
    stopped = threading.Event()

    def client() -> None:
        with grpc.insecure_channel(session) as own:
            stub = WordsStub(own)
            while not stopped.is_set():
                try:
                    seen[stub.Upper(Text()).text] += 1
                    seen["streams"] += [one.text for one in stub.Split(Text(text="a b"))] == ["a", "b"]
                except grpc.RpcError as error:
                    errors.append(str(error))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for one in threads:
        one.start()
    try:
        for number in range(1, 3):
            wait_until(lambda: seen[f"v{number - 1}"] > 20)  # noqa: B023
            serve.run(words.bind(f"v{number}"))
        wait_until(lambda: seen["v2"] > 20)
    finally:
        stopped.set()
        for one in threads:
            one.join()
    assert errors == []
    assert {*seen} == {"v0", "v1", "v2", "streams"}


def test_a_door_that_dies_comes_back_at_its_port(
    session: str, channel: grpc.Channel, wait_until: Wait
) -> None:
    serve.run(Words.bind())
    stub = WordsStub(channel)
    assert stub.Upper(Text(text="x")).text == "X"
    waiting = stub.Wait.future(Text())
    wait_until(lambda: serve.get_app_handle("default").counts.remote().result() == (1, 0))

    def pids() -> list[int]:
        return [
            one.pid for one in list_actors(detail=True) if one.name == calls.DOOR and one.state == "ALIVE"
        ]

    (pid,) = pids()
    os.kill(pid, signal.SIGKILL)
    assert failure(waiting.result).code() is grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: pids() not in ([], [pid]))

    def answers() -> bool:
        try:
            return stub.Upper(Text(text="x"), wait_for_ready=True, timeout=60).text == "X"
        except grpc.RpcError:  # it was written to the connection that is no more
            return False

    wait_until(answers)
    assert address() == session
    serve.get_app_handle("default").go.remote().result()  # the replica still has the first request


def test_services_are_described_to_clients(channel: grpc.Channel) -> None:
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    described = ProtoReflectionDescriptorDatabase(channel)
    assert NAME in described.get_services()
    file = described.FindFileContainingSymbol(NAME)
    assert next(one.name for one in file.service[0].method) == "Upper"


def test_requests_are_counted_and_remembered(stub: Any) -> None:
    serve.run(Words.bind(), name="counted")
    before = series()
    stub.Upper(Text(), metadata=[("request_id", "remembered")])
    failure(lambda: stub.Fail(Text()))
    found = series()
    path = f"/{NAME}/Upper"
    key = ("ray_serve_num_grpc_requests", ("counted", path, "counted", "OK"))
    assert found[key] - before.get(key, 0) == 1
    path = f"/{NAME}/Fail"
    assert found["ray_serve_num_grpc_error_requests", ("counted", "INTERNAL", path, "counted")] == 1
    of_deployment = ("Words", "counted", "INTERNAL", path, "counted")
    assert found["ray_serve_num_deployment_grpc_error_requests", of_deployment] == 1
    assert found["ray_serve_deployment_error_counter", ("Words", "counted", "", "ValueError")] == 1
    lines = " ".join(serve.why("remembered"))
    assert f"GRPC /{NAME}/Upper" in lines
    assert "OK" in lines


def series() -> dict[Any, Any]:
    """Return the series of all processes together."""
    found: dict[Any, Any] = {}
    for one in _instance.series().values():
        found.update(one)
    return found


def test_requests_that_wait_at_the_door_are_found(stub: Any, wait_until: Wait) -> None:
    serve.run(Words.options(max_ongoing_requests=1).bind())
    calls = [stub.Wait.future(Text(), metadata=[("request_id", f"waits-{one}")]) for one in range(2)]
    wait_until(
        lambda: any("waits in SERVE_GRPC" in line for one in range(2) for line in serve.why(f"waits-{one}"))
    )
    for one in calls:
        one.cancel()


def test_a_second_start_changes_nothing(session: str) -> None:
    serve.start(grpc_options={"port": 1, "grpc_servicer_functions": [FUNCTION]})
    assert address() == session


# ---------------------------------------------------------------------- other sessions


@pytest.fixture
def fresh() -> Iterator[None]:
    """A session without serve."""
    skate.shutdown()
    skate.init(num_cpus=2, object_store_memory=256 << 20)
    yield
    serve.shutdown()
    skate.shutdown()


def test_mistakes_are_errors_of_start(fresh: None) -> None:
    for function, text in (
        ("serve.grpc_service.nothing", "cannot be imported"),
        ("no_such_module_pb2_grpc.add", "cannot be imported"),
        ("serve.grpc_service.NAME", "is no function"),
        ("os.getcwd", "raised TypeError"),
    ):
        with pytest.raises(RayServeException, match=text):
            serve.start(
                http_options={"port": 0}, grpc_options={"port": 0, "grpc_servicer_functions": [function]}
            )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"cannot listen for gRPC on 127.0.0.1:{port}"):
            serve.start(grpc_options={"port": port, "grpc_servicer_functions": [FUNCTION]})
    serve.start(grpc_options={"grpc_servicer_functions": []})  # gRPC is off
    assert [one for one in serve.status().proxies if one.startswith("grpc")] == []
    serve.start(grpc_options={"port": 0, "grpc_servicer_functions": [FUNCTION]})
    with grpc.insecure_channel(address()) as channel:
        assert channel.unary_unary(HEALTHZ)(b"")


APP = """
from serve.grpc_service import Text
from skate import serve

@serve.deployment
class Words:
    def Upper(self, text):
        return Text(text=text.text.upper())

app = Words.bind()
"""


def test_a_config_file_starts_it(fresh: None, tmp_path: Path) -> None:
    (tmp_path / "words_app.py").write_text(APP)
    (tmp_path / "words_services.py").write_text(
        "from serve.grpc_service import add_WordsServicer_to_server as add_words"
    )
    config = ServeDeploySchema.model_validate(
        {
            "http_options": {"port": 0},
            "grpc_options": {"port": 0, "grpc_servicer_functions": ["words_services.add_words"]},
            "applications": [{"name": "words", "import_path": "words_app:app"}],
        }
    )
    built = _deploy.deploy(config, [str(tmp_path)])
    assert _deploy.wait(built) == {"words": ""}
    with grpc.insecure_channel(address()) as channel:
        assert WordsStub(channel).Upper(Text(text="x")).text == "X"


def test_keys_limits_and_timeouts_hold_here_too(fresh: None) -> None:
    serve.start(
        http_options={"port": 0, "api_keys": ["key-1"], "max_body_bytes": 10_000},
        grpc_options={"port": 0, "grpc_servicer_functions": [FUNCTION], "request_timeout_s": 0.2},
    )
    serve.run(Words.bind())
    with grpc.insecure_channel(address()) as channel:
        stub = WordsStub(channel)
        assert channel.unary_unary(HEALTHZ)(b"")
        key = [("authorization", "Bearer key-1")]
        for metadata in ([], [("authorization", "Bearer key-2")], [("x-api-key", "")]):
            for call in (
                lambda: stub.Upper(Text(), metadata=metadata),  # noqa: B023
                lambda: [*stub.Split(Text(), metadata=metadata)],  # noqa: B023
                lambda: stub.Join(texts("a"), metadata=metadata),  # noqa: B023
                lambda: channel.unary_unary(LIST)(b"", metadata=metadata),  # noqa: B023
            ):
                assert failure(call).code() is grpc.StatusCode.UNAUTHENTICATED
        reflection = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert failure(lambda: [*reflection(iter([b""]))]).code() is grpc.StatusCode.UNAUTHENTICATED
        for metadata in (key, [("x-api-key", "key-1")]):
            assert stub.Upper(Text(text="x"), metadata=metadata).text == "X"
        found = stub.Context(Text(text="facts"), metadata=[*key, ("mine-bin", b"\x00\xff")])
        assert eval(found.text)["authorization"] is None
        assert eval(found.text)["bytes"] == b"\x00\xff"
        error = failure(lambda: stub.Upper(Text(text="x" * 20_000), metadata=key))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        error = failure(lambda: stub.Wait(Text(), metadata=key))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "timed out after 0.2s" in error.details()
        # Keys are replaced while the door runs.
        serve.start(http_options={"api_keys": ["key-2"]})
        assert failure(lambda: stub.Upper(Text(), metadata=key)).code() is grpc.StatusCode.UNAUTHENTICATED
        assert stub.Upper(Text(text="y"), metadata=[("x-api-key", "key-2")]).text == "Y"


def test_tls_of_http_is_that_of_grpc(fresh: None, tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = str(tmp_path / "server.pem"), str(tmp_path / "server.key")
    server.cert_chain_pems[0].write_to_path(certificate)
    server.private_key_pem.write_to_path(key)
    options = {"port": 0, "ssl_certfile": certificate, "ssl_keyfile": key}
    serve.start(
        http_options=options,
        grpc_options={"port": 0, "grpc_servicer_functions": [FUNCTION]},
    )
    serve.run(Words.bind())
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with grpc.secure_channel(address(), credentials) as channel:
        stub = WordsStub(channel)
        assert stub.Upper(Text(text="x")).text == "X"
        assert "transport_security_type" in eval(stub.Context(Text(text="facts")).text)["auth"]
    with grpc.insecure_channel(address()) as channel:
        assert failure(lambda: WordsStub(channel).Upper(Text(), timeout=60)).code() is (
            grpc.StatusCode.UNAVAILABLE
        )
