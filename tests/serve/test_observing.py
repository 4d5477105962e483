"""Metrics, the live view and ``serve.why`` on real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from tests.serve.conftest import Web
from tests.serve.processes import kill_controller, replicas

from skate import serve
from skate.engine import require_engine

Wait = Callable[[Callable[[], object]], None]
pytestmark = pytest.mark.time_limit(120)


class Page:
    """A scrape, as Prometheus' own parser reads it."""

    def __init__(self, web: Web) -> None:
        answer = web("/-/metrics")
        self.status, self.text = answer.status, answer.text
        self.samples = [
            (one.name, one.labels, one.value)
            for family in (text_string_to_metric_families(self.text) if self.status == 200 else ())
            for one in family.samples
        ]

    def __call__(self, metric: str, /, **labels: str) -> float:
        """Return the sum of the values with these labels."""
        return sum(
            value
            for found, has, value in self.samples
            if found == f"ray_serve_{metric}" and labels.items() <= has.items()
        )


@serve.deployment(max_ongoing_requests=2)
class Counted:
    """Answers, or raises, or waits until it is let go."""

    def __init__(self, folder: str = "") -> None:
        self.go = asyncio.Event()
        self.folder = folder

    async def __call__(self, request: Request) -> Any:
        what = request.url.path.rpartition("/")[2]
        if what == "raise":
            raise KeyError("the user's")
        if what == "wait":
            await self.go.wait()
        return what

    def call(self, fails: bool = False) -> str:
        if fails:
            raise ValueError("a bad call")
        return "called"

    async def wait(self) -> str:
        await self.go.wait()
        return "done"

    async def words(self) -> Any:
        yield "one"
        await self.go.wait()
        yield "two"

    def read(self) -> str:
        return (Path(self.folder) / "go").read_text()

    async def block(self) -> str:
        return self.read()

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """A folder with a FIFO "go": its reader waits until the test ends, or writes."""
    path = tmp_path / "go"
    os.mkfifo(path)
    yield tmp_path
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_what_was_answered_is_counted(web: Web) -> None:
    handle = serve.run(Counted.options(name="Page").bind(), route_prefix="/page")
    for path in ("/page/a", "/page/b", "/page/raise", "/missing", "/-/healthz"):
        web(path)
    web("/page/a", b"body")
    assert handle.call.remote().result() == "called"
    with pytest.raises(ValueError, match="a bad call"):
        handle.call.remote(fails=True).result()
    page, of = Page(web), {"deployment": "Page", "application": "default"}
    http = {"route": "/page", "application": "default"}
    assert page("num_http_requests_total", **http, method="GET", status_code="200") == 2
    assert page("num_http_requests_total", **http, method="POST", status_code="200") == 1
    assert page("num_http_requests_total", **http, status_code="500") == 1
    assert page("num_http_requests_total", route="", status_code="404") == 1
    assert page("num_http_error_requests_total", **http, error_code="500") == 1
    assert page("num_deployment_http_error_requests_total", **of, error_code="500") == 1
    assert page("http_request_latency_ms_count", **http) == 4
    assert page("deployment_request_counter_total", **of, route="/page") == 3
    assert page("deployment_request_counter_total", **of, route="") == 1
    assert page("deployment_error_counter_total", **of, route="/page", exception_type="KeyError") == 1
    assert page("deployment_error_counter_total", **of, route="", exception_type="ValueError") == 1
    assert page("deployment_processing_latency_ms_count", **of) == 6
    assert page("deployment_replica_starts_total", **of) == 1
    (replica,) = replicas("Page")
    assert page("deployment_replica_healthy", **of, replica=replica) == 1
    assert page("replica_processing_queries", **of, replica=replica) == 0


def test_what_waits_and_what_is_given_up_is_counted(web: Web, wait_until: Wait) -> None:
    one = Counted.options(name="Busy", max_ongoing_requests=1, max_queued_requests=1)
    handle = serve.run(Outer.options(name="Caller", max_ongoing_requests=5).bind(one.bind()))
    inner = serve.get_deployment_handle("Busy", "default")
    of = {"deployment": "Busy", "application": "default"}
    running = handle.remote()
    wait_until(lambda: Page(web)("replica_processing_queries", **of) == 1)
    queued = handle.remote()
    wait_until(lambda: Page(web)("deployment_queued_queries", **of) == 1)
    with pytest.raises(serve.exceptions.BackPressureError):
        handle.remote().result()
    assert Page(web)("shed_total", **of, reason="queue_full") == 1
    assert Page(web)("num_ongoing_requests_at_replicas", **of) == 1
    queued.cancel()
    wait_until(lambda: Page(web)("cancelled_total", **of, where="queued") == 1)
    running.cancel()
    wait_until(lambda: Page(web)("cancelled_total", **of, where="running") == 1)
    wait_until(lambda: Page(web)("replica_processing_queries", **of) == 0)
    assert Page(web)("num_router_requests_total", **of) == 3
    assert inner.call.remote().result() == "called"


@serve.deployment
class Outer:
    """Passes requests on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, request: Any = None) -> Any:
        return await self.inner.wait.remote()


def test_deadlines_are_counted_where_they_end(web: Web, wait_until: Wait) -> None:
    serve.run(Counted.options(name="Late", max_ongoing_requests=1).bind())
    of = {"deployment": "Late", "application": "default"}
    with contextlib.closing(_begin(web, "/wait")):
        wait_until(lambda: Page(web)("num_ongoing_http_requests") >= 2)
        assert web("/wait", x_request_timeout_seconds="0.05").status == 408
        assert Page(web)("deadline_exceeded_total", **of, where="queued") == 1
    wait_until(lambda: Page(web)("cancelled_total", **of, where="running") == 1)
    assert web("/wait", x_request_timeout_seconds="0.05").status == 408
    assert Page(web)("deadline_exceeded_total", **of, where="running") == 1
    assert Page(web)("num_http_requests_total", route="/", application="default", status_code="499") >= 1


def _begin(web: Web, path: str, request_id: str = "begun") -> Any:
    """Begin a request over HTTP and do not wait for its answer; closing the connection gives it up."""
    import socket

    connection = socket.create_connection((web.host, web.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: {request_id}\r\n\r\n".encode())
    return connection


def test_batches_and_models_are_counted(web: Web) -> None:
    @serve.deployment(max_ongoing_requests=20)
    class Batched:
        @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.01)
        async def double(self, numbers: list[int]) -> list[int]:
            return [2 * number for number in numbers]

        @serve.multiplexed(max_num_models_per_replica=1)
        async def model(self, name: str) -> str:
            return name

        async def models(self, *names: str) -> list[str]:
            return [await self.model(name) for name in names]

    handle = serve.run(Batched.bind(), route_prefix=None)
    assert [one.result() for one in [handle.double.remote(n) for n in range(5)]] == [0, 2, 4, 6, 8]
    handle.models.remote("a", "a", "b").result()
    page, of = Page(web), {"deployment": "Batched", "application": "default"}
    batches = page("batches_processed_total", **of, function_name="double")
    assert 3 <= batches <= 5
    assert page("actual_batch_size_sum", **of) == 5
    assert page("batch_execution_time_ms_count", **of) == batches
    assert page("batch_released_total", **of) == batches
    assert page("batch_released_total", **of, reason="window") >= 1
    assert page("batch_queue_length", **of) == 0
    assert page("multiplexed_get_model_requests_counter_total", **of) == 3
    assert page("multiplexed_models_load_counter_total", **of) == 2
    assert page("multiplexed_models_unload_counter_total", **of) == 1
    assert page("num_multiplexed_models", **of) == 1


def test_counters_survive_updates_deaths_and_the_controller(web: Web, wait_until: Wait) -> None:
    of = {"deployment": "Kept", "application": "default"}
    one = Counted.options(name="Kept")
    serve.run(one.bind(), route_prefix="/kept")

    def answered() -> float:
        return Page(web)("deployment_request_counter_total", **of, route="/kept")

    def ask(times: int) -> None:
        for _ in range(times):
            assert web("/kept/a").status == 200

    ask(3)
    serve.run(one.bind("another version"), route_prefix="/kept")  # nobody has looked at the old replica
    assert answered() == 3
    assert Page(web)("deployment_replica_starts_total", **of) == 2
    ask(2)
    assert answered() == 5
    (replica,) = replicas("Kept")
    os.kill(serve.get_deployment_handle("Kept", "default").pid.remote().result(), signal.SIGKILL)
    wait_until(lambda: replica not in replicas("Kept") and replicas("Kept"))
    assert answered() == 5
    ask(1)
    assert answered() == 6
    errors = Page(web)("num_http_requests_total", status_code="404")
    kill_controller()
    wait_until(lambda: Page(web).status == 200)
    assert answered() == 6
    assert Page(web)("num_http_requests_total", status_code="404") >= errors
    ask(1)
    assert answered() == 7


def test_a_process_that_does_not_answer_is_named_and_counts_on(web: Web, wait_until: Wait) -> None:
    of = {"deployment": "Stopped", "application": "default"}
    handle = serve.run(Counted.options(name="Stopped").bind(), route_prefix=None)
    handle.call.remote().result()
    before = Page(web)
    assert "No answer" not in before.text
    pid, (replica,) = handle.pid.remote().result(), replicas("Stopped")
    known = Page(web)("deployment_request_counter_total", **of)
    os.kill(pid, signal.SIGSTOP)
    try:
        page = Page(web)
        assert f"# No answer in time, so the latest known values count: {replica}\n" in page.text
        assert page("deployment_request_counter_total", **of) == known == 2
        lines = serve.why("any")
        assert lines[-1] == f"No answer in time from {replica}, which may have it."
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "No answer" not in Page(web).text)


# ---------------------------------------------------------------------- why


def why(request_id: str) -> str:
    return "\n".join(serve.why(request_id))


def test_why_says_what_a_request_waits_for(web: Web, wait_until: Wait) -> None:
    serve.run(Counted.options(name="Why", max_ongoing_requests=1).bind(), name="why")
    (name,) = replicas("Why", "why")
    with (
        contextlib.closing(_begin(web, "/wait", "first")),
        contextlib.closing(_begin(web, "/wait", "second")),
    ):
        wait_until(lambda: "waits" in why("second") or "waits" in why("first"))
        first, second = ("first", "second") if "waits" in why("second") else ("second", "first")
        with contextlib.closing(_begin(web, "/wait", "third")):
            wait_until(lambda: "waits" in why("third"))
            running = re.compile(
                rf"Request {first} runs in replica {name} of Why \(application why\) for [\d.]+ m?s, at "
                r"\S+:\d+ in __call__\."
            )
            wait_until(lambda: running.fullmatch(why(first)))
            busy = rf"whose replicas are all busy: {name} runs 1 of 1\."
            # Before the first table of replicas has come, they wait for that.
            for waiting, place in ((second, "first in line"), ("third", "behind 1 other")):
                line = rf"Request {waiting} waits in {name} for [\d.]+ m?s, {place}, for Why .*, {busy}"
                wait_until(lambda line=line, waiting=waiting: re.fullmatch(line, why(waiting)))  # type: ignore[misc]
    wait_until(lambda: "ended in" in why(first))
    assert f"ended in {name} with status 499 after" in why(first)
    assert "(GET /wait, Why (application why))" in why(first)
    assert "is not known" in why("never")


def test_why_finds_the_line_of_threads_streams_and_blocked_loops(
    web: Web, fifo: Path, wait_until: Wait
) -> None:
    handle = serve.run(
        Counted.options(name="Line", max_ongoing_requests=5).bind(str(fifo)), route_prefix=None
    )
    calls = [handle.read.remote(), handle.options(stream=True).words.remote(), handle.block.remote()]
    for call, function in zip(calls, ("read", "words", "read"), strict=True):
        place = re.compile(rf" runs in replica .* at \S+:\d+ in {function}\.$")
        wait_until(lambda call=call, place=place: place.search(why(call.request_id)))  # type: ignore[misc]
    calls[1].cancel()
    _write(fifo)


def _write(fifo: Path) -> None:
    """Let all readers of the FIFO go on."""
    with open(fifo / "go", "w") as file:
        file.write("go")


def test_why_knows_the_driver_and_the_past(web: Web, wait_until: Wait) -> None:
    handle = serve.run(Counted.options(name="Past", max_ongoing_requests=1).bind(), route_prefix=None)
    running, queued = handle.wait.remote(), None
    wait_until(lambda: "runs in replica" in why(running.request_id))
    queued = handle.wait.remote()
    wait_until(lambda: "waits in this process for" in why(queued.request_id))
    queued.cancel()
    running.cancel()
    wait_until(lambda: "with status CANCELLED" in why(running.request_id))
    with pytest.raises(ValueError, match="a bad call"):
        failing = handle.call.remote(fails=True)
        failing.result()
    assert "with status ERROR ValueError after" in why(failing.request_id)
    assert "(call of call, Past (application default))" in why(failing.request_id)


# ---------------------------------------------------------------------- the command line


def test_why_and_the_live_view_on_the_command_line(web: Web, wait_until: Wait) -> None:
    serve.run(Counted.options(name="Shown", num_replicas=2).bind())
    web("/a", x_request_id="shown")
    command = [sys.executable, "-m", "skate", "serve"]
    address = ["--address", require_engine("test").session_dir]
    found = subprocess.run([*command, "why", "shown", *address], capture_output=True, text=True, check=True)
    assert re.match(r"Request shown ended in Shown\S+ with status 200 after", found.stdout)
    watch = subprocess.Popen(
        [*command, "status", "--watch", "0.2", *address], stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    try:
        for line in watch.stdout:
            web("/a")
            found_row = re.search(r"default +Shown +all +([\d.]+)/s", line)
            if found_row and float(found_row[1]) > 0:
                break
        names = [line.split()[2] for line in (next(watch.stdout), next(watch.stdout))]
        assert names == sorted(replicas("Shown"))
    finally:
        watch.send_signal(signal.SIGINT)
        watch.stdout.read()
        assert watch.wait() == 0
    wrong = subprocess.run([*command, "status", "--watch", "0", *address], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (
        1, "skate serve: --watch takes the seconds between two looks, got 0\n"
    )  # fmt: skip
