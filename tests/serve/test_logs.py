"""Log records, access logs and traces of requests, on real processes."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from tests.serve.conftest import Web

from skate import serve
from skate.engine import require_engine
from skate.serve.schema import LoggingConfig

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ID = r"[0-9a-f-]{36}"


@serve.deployment
class Logs:
    """Logs what it is asked for."""

    def __init__(self, inner: Any = None) -> None:
        self.inner = inner

    async def __call__(self, request: Request) -> str:
        logger = logging.getLogger("ray.serve")
        logger.info("in %s", request.url.path)
        logger.debug("too much")
        logging.getLogger("users").warning("the user's")
        return await self.inner.inside.remote() if self.inner is not None else "ok"

    def inside(self) -> str:
        logging.getLogger("ray.serve").info("in a thread")
        return "inner"

    def pid(self) -> int:
        return os.getpid()


def lines(folder: Path, ending: str) -> list[str]:
    """Return the lines of all files of a kind."""
    return [
        line for path in sorted(folder.glob(f"*{ending}")) for line in path.read_text().split("\n") if line
    ]


def test_records_have_the_request_they_belong_to(web: Web, tmp_path: Path) -> None:
    config = LoggingConfig(logs_dir=str(tmp_path), enable_access_log=False)
    serve.run(Logs.bind(Logs.options(name="Inner").bind()), name="logs", logging_config=config)
    assert web("/a", x_request_id="mine").text == "inner"
    outer, inner = (f"{tmp_path}/replica_logs_{name}" for name in ("Logs", "Inner"))
    replica = Path(next(str(one) for one in tmp_path.iterdir() if str(one).startswith(outer))).stem.split(
        "_"
    )[-1]
    found = lines(tmp_path, ".log")
    assert len([one for one in tmp_path.iterdir() if str(one).startswith(inner)]) == 1
    mine = [re.sub(r"^\S+ \S+ ", "", line) for line in found if " mine " in line]
    assert mine[0].startswith("INFO logs/Inner Inner-")
    assert mine[0].endswith(" mine in a thread")
    assert mine[1:] == [
        f"INFO logs/Logs {replica} mine in /a",
        f"WARNING logs/Logs {replica} mine the user's",
    ]
    assert not [line for line in found if "too much" in line]
    assert not list(tmp_path.glob("*.access.log"))


def test_the_program_shows_what_replicas_print_and_why_requests_fail(
    web: Web, wait_until: Wait, capfd: pytest.CaptureFixture[str]
) -> None:
    """A traceback begins with the user's code, and has its lines."""

    @serve.deployment
    class Broken:
        def __call__(self, request: Request) -> float:
            print("it was asked")
            return 1 / len(request.query_params)  # the line that fails

    serve.run(Broken.bind())
    assert web("/", x_request_id="mine").status == 500
    shown = ["", ""]

    def has_both() -> bool:
        for index, text in enumerate(capfd.readouterr()):
            shown[index] += text
        return "asked" in shown[0] and "ZeroDivisionError" in shown[1]

    wait_until(has_both)
    assert re.search(r"^\(ServeReplica:default:Broken pid=\d+\) it was asked$", shown[0], re.MULTILINE)
    assert " request mine of default failed" in shown[1]
    frames = re.findall(r"File .*", shown[1])
    assert len(frames) == 1 and frames[0].startswith(f'File "{__file__}", line')
    assert "return 1 / len(request.query_params)  # the line that fails" in shown[1]


def test_json_records_levels_and_more_attributes(web: Web, tmp_path: Path) -> None:
    config = {
        "encoding": "JSON", "log_level": "debug", "logs_dir": str(tmp_path), "additional_log_standard_attrs": ["name"],
    }  # fmt: skip
    serve.run(Logs.options(logging_config=config).bind(), name="json", route_prefix="/json")
    web("/json/a", x_request_id="mine")
    records = [json.loads(line) for line in lines(tmp_path, "x1.log")]
    mine = [one for one in records if one["request_id"] == "mine"]
    assert [(one["levelname"], one["message"], one["name"]) for one in mine] == [
        ("INFO", "in /json/a", "ray.serve"), ("DEBUG", "too much", "ray.serve"), ("WARNING", "the user's", "users"),
    ]  # fmt: skip
    assert {(one["application"], one["deployment"], one["route"]) for one in mine} == {
        ("json", "Logs", "/json")
    }


def test_the_access_log_has_a_line_for_each_request(web: Web, tmp_path: Path, wait_until: Wait) -> None:
    serve.run(Logs.bind(Logs.options(name="Inner").bind()), logging_config={"logs_dir": str(tmp_path)})
    web("/a?secret=1", x_request_id="first")
    web("/b%0Aforged", b"body", x_request_id="second")
    wait_until(lambda: len(lines(tmp_path, ".access.log")) == 4)
    found = [re.sub(r"^\S+ \S+ ", "", line) for line in lines(tmp_path, ".access.log")]
    assert re.fullmatch(r"default/Inner first CALL inside OK [\d.]+ms", found[0])
    assert re.fullmatch(r"default/Logs first GET /a 200 [\d.]+ms", found[2])
    assert re.fullmatch(r"default/Logs second POST /b\\nforged 200 [\d.]+ms", found[3])


def test_another_configuration_restarts_nothing(web: Web, tmp_path: Path, wait_until: Wait) -> None:
    one = Logs.options(name="Changed")
    handle = serve.run(one.bind())
    pid = handle.pid.remote().result()
    web("/before", x_request_id="before")
    serve.run(one.options(logging_config={"logs_dir": str(tmp_path), "encoding": "JSON"}).bind())
    wait_until(lambda: web("/after", x_request_id="after").status == 200 and lines(tmp_path, ".access.log"))
    assert handle.pid.remote().result() == pid
    records = [json.loads(line) for line in lines(tmp_path, ".access.log")]
    assert {one["path"] for one in records if one["method"] == "GET"} == {"/after"}
    assert records[-1].keys() == {
        "time", "application", "deployment", "request_id", "method", "path", "status", "latency_ms",
    }  # fmt: skip
    serve.run(one.bind())
    wait_until(lambda: not _logs(web, tmp_path))
    assert handle.pid.remote().result() == pid


def _logs(web: Web, folder: Path) -> bool:
    """Tell whether a request adds a record to the files of a folder."""
    before = lines(folder, "x1.log")
    web("/more")
    return lines(folder, "x1.log") != before


def test_by_default_the_output_shows_the_request_and_there_is_no_access_log(
    web: Web, wait_until: Wait
) -> None:
    serve.run(Logs.options(name="Plain").bind())
    web("/a", x_request_id="mine")
    folder = Path(require_engine("test").session_dir) / "logs"
    output: list[str] = []

    def is_written() -> bool:
        output[:] = [line for line in lines(folder, ".log") if " default/Plain " in line]
        return len(output) >= 2

    wait_until(is_written)
    assert re.search(r"INFO default/Plain Plain-\S+ mine in /a$", output[0])
    assert re.search(r"WARNING default/Plain Plain-\S+ mine the user's$", output[1])
    assert not [one for one in (folder / "serve").glob("*") if "Plain" in one.name]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"encoding": "XML"}, ValueError),
        ({"log_level": "LOUD"}, ValueError),
        ({"logs_dir": 3}, ValueError),
        ({"enable_access_log": "yes"}, ValueError),
        ({"additional_log_standard_attrs": ["nme"]}, ValueError),
        ({"unknown": 1}, TypeError),
        ("INFO", TypeError),
    ],
)
def test_wrong_configurations_are_refused_where_they_are_written(wrong: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Logs.options(logging_config=wrong)
    with pytest.raises(kind):
        serve.run(Logs.bind(), logging_config=wrong)
    with pytest.raises(kind):
        serve.start(logging_config=wrong)


def test_the_narrower_configuration_counts() -> None:
    from skate.serve._build import target_of
    from skate.serve._targets import with_logging

    own, given, default = LoggingConfig("JSON"), LoggingConfig(log_level=10), LoggingConfig(log_level=40)
    target = target_of(Logs.bind(Logs.options(name="Own", logging_config=own).bind()), "a", None)
    found = with_logging(with_logging(target, given), default).deployments
    assert (found["Own"].settings.logging, found["Logs"].settings.logging) == (own, given)
    assert with_logging(target, default).deployments["Logs"].settings.logging == default
    assert found["Own"].version == target.deployments["Own"].version


# ---------------------------------------------------------------------- traces


@serve.deployment
class Traced:
    """Answers with the trace that it sees, and those below it."""

    def __init__(self, inner: Any = None) -> None:
        self.inner = inner

    async def __call__(self, request: Request) -> Any:
        below = await self.inner.trace.remote() if self.inner is not None else None
        return [serve.get_trace_context(), below, "opentelemetry" in sys.modules]

    def trace(self) -> Any:
        return serve.get_trace_context()


def test_a_trace_goes_with_the_request(web: Web) -> None:
    serve.run(Traced.bind(Traced.options(name="Inner").bind()))
    assert web("/", traceparent=TRACE).json() == [{"traceparent": TRACE}, {"traceparent": TRACE}, False]
    assert web("/", traceparent="00-no-trace-01").json() == [None, None, False]
    assert web("/").json() == [None, None, False]
    assert serve.get_trace_context() is None


def spans_of_this_process() -> Any:
    """Set up OpenTelemetry, as users do; return what collects the spans."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@serve.deployment
class Spans:
    """Sets up OpenTelemetry, and calls another deployment that does."""

    def __init__(self, inner: Any = None) -> None:
        self.spans = spans_of_this_process()
        self.inner = inner

    async def __call__(self, request: Request) -> str:
        if request.url.path == "/raise":
            raise KeyError("the user's")
        return await self.inner.own.remote()

    def own(self) -> str:
        from opentelemetry import trace

        with trace.get_tracer("users").start_as_current_span("own", context=serve.get_trace_context()):
            return "ok"

    async def finished(self) -> list[Any]:
        return [
            (
                one.name, f"{one.context.trace_id:032x}", f"{one.context.span_id:016x}",
                f"{one.parent.span_id:016x}" if one.parent else "", one.status.status_code.name,
                dict(one.attributes),
            )
            for one in self.spans.get_finished_spans()
        ]  # fmt: skip


def test_spans_where_the_user_has_set_up_opentelemetry(web: Web, wait_until: Wait) -> None:
    pytest.importorskip("opentelemetry.sdk")
    handle = serve.run(Spans.bind(Spans.options(name="Inner").bind()))
    assert web("/", traceparent=TRACE, x_request_id="mine").text == "ok"
    inner = serve.get_deployment_handle("Inner", "default")

    def found() -> dict[str, Any]:
        both = [*handle.finished.remote().result(), *inner.finished.remote().result()]
        return {one[0]: one[1:] for one in both if not one[0].endswith("finished")}

    wait_until(lambda: len(found()) == 4)
    spans = found()
    _, trace, parent, _ = TRACE.split("-")
    for name in ("GET /", "Spans.__call__", "Inner.own", "own"):
        trace_id, span_id, above, status, attributes = spans[name]
        assert (trace_id, above) == (trace, parent), name
        assert status in ("UNSET", "OK")
        assert name == "own" or attributes["request_id"] == "mine"
        parent = span_id
    assert spans["GET /"][4]["http.response.status_code"] == 200
    assert web("/raise").status == 500
    wait_until(lambda: found()["GET /"][3] == found()["Spans.__call__"][3] == "ERROR")
    assert found()["GET /"][2] == ""
