"""`skate serve`, as users run it: real commands on sessions of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from skate._launch import session

Wait = Callable[[Callable[[], object]], None]

APP = """
import os
from skate import serve
from shop.words import greeting

@serve.deployment
class Model:
    def __init__(self, arguments=None):
        self.arguments = arguments
        self.config = None
    def reconfigure(self, config):
        self.config = config
    def __call__(self, request):
        return {"word": greeting, "arguments": self.arguments, "config": self.config, "pid": os.getpid(),
                "mark": os.environ.get("MARK")}

app = Model.bind()
def build(arguments):
    return Model.bind(arguments)
"""
CONFIG = """
http_options: {port: 0}
applications:
- name: one
  route_prefix: /one
  import_path: shop.app:build
  args: {size: 3}
  runtime_env: {env_vars: {MARK: here}}
  deployments:
  - {name: Model, user_config: {a: 1}}
- name: two
  route_prefix: /two
  import_path: shop.app:app
"""


@pytest.fixture
def place(folder: str, tmp_path: Path) -> Iterator[Path]:
    """A folder with an application, and no session of another test."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "words.py").write_text("greeting = 'hello'\n")
    (tmp_path / "shop" / "app.py").write_text(APP)
    (tmp_path / "serve.yaml").write_text(CONFIG)
    yield tmp_path
    for one in session.living():
        command("stop", "--address", one, place=tmp_path)


def command(*arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skate", *arguments], cwd=place, capture_output=True, text=True
    )


def serve(*arguments: str, place: Path, code: int = 0) -> str:
    """Run a command of serve; return what it printed."""
    done = command("serve", *arguments, place=place)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr.partition("\n")[0]
    return done.stdout + done.stderr


def get(address: str) -> Any:
    with urllib.request.urlopen(address) as answer:
        return json.loads(answer.read())


@pytest.fixture
def started(place: Path) -> Path:
    """The same, and a session that stays, with serve in it."""
    done = command("start", "--head", "--num-cpus", "2", place=place)
    assert done.returncode == 0, done.stderr
    assert "Serve runs at http://127.0.0.1:" in serve("start", "--http-port", "0", place=place)
    return place


def address_of(place: Path) -> str:
    (address,) = json.loads(serve("status", "--json", place=place))["proxies"]
    return f"http://{address}"


@pytest.mark.time_limit(120)
def test_a_config_file_and_its_changes(started: Path) -> None:
    """deploy, status, config; in place where only settings change; others go; mistakes change nothing."""
    printed = serve("deploy", "serve.yaml", place=started)
    address = address_of(started)
    assert f"Application 'one' answers at {address}/one" in printed
    first = get(f"{address}/one")
    assert first | {"pid": 0} == {
        "word": "hello", "arguments": {"size": 3}, "config": {"a": 1}, "pid": 0, "mark": "here",
    }  # fmt: skip
    second = get(f"{address}/two")
    assert (second["arguments"], second["mark"]) == (None, None)
    assert "size: 3" in serve("config", "-n", "one", place=started)
    assert serve("config", place=started).count("import_path") == 2
    assert re.search(r"one +RUNNING", serve("status", place=started))
    assert "one" not in serve("status", "-n", "two", place=started).replace("1 running", "")
    assert "no application 'three'" in serve("status", "-n", "three", place=started, code=1)

    # Settings change in place; what the new file does not name goes, but not what a program has run.
    serve("run", "shop.app:app", "--name", "program", "--route-prefix", "/p", "--non-blocking", place=started)
    whole = (started / "serve.yaml").read_text()
    (started / "serve.yaml").write_text(whole.replace("a: 1", "a: 2").partition("- name: two")[0])
    serve("deploy", "serve.yaml", place=started)
    changed = get(f"{address}/one")
    assert (changed["config"], changed["pid"]) == ({"a": 2}, first["pid"])
    assert [*json.loads(serve("status", "--json", place=started))["applications"]] == ["one", "program"]

    # A mistake in one application leaves all as they are.
    for wrong, text in (
        (whole.replace("shop.app:app", "shop.nothing:app"), "No module named 'shop.nothing'"),
        (whole.replace("name: Model", "name: Modl"), "did you mean 'Model'"),
        (whole.replace("/two", "/p"), "is being used by application 'program'"),
        (whole.replace("route_prefix", "prefix", 1), "unknown key 'prefix'"),
    ):
        (started / "serve.yaml").write_text(wrong)
        assert text in serve("deploy", "serve.yaml", place=started, code=1)
    assert get(f"{address}/one")["pid"] == first["pid"]
    assert [*json.loads(serve("status", "--json", place=started))["applications"]] == ["one", "program"]
    serve("shutdown", "-y", place=started)
    assert "no applications" in serve("status", place=started)


def test_a_canary_on_the_command_line(started: Path) -> None:
    options = ("--name", "shop", "--route-prefix", "/shop", "--non-blocking")

    def run(version: int, *more: str, code: int = 0) -> str:
        return serve("run", "shop.app:build", f"version={version}", *options, *more, place=started, code=code)

    run(1)
    address = f"{address_of(started)}/shop"
    run(2, "--canary", "100")
    assert "Model#canary: HEALTHY, 1 running" in serve("status", place=started)
    assert get(address)["arguments"] == {"version": "2"}
    serve("rollback", "-n", "shop", place=started)
    assert get(address)["arguments"] == {"version": "1"}
    run(3, "--canary", "100")
    serve("promote", "-n", "shop", place=started)
    assert get(address)["arguments"] == {"version": "3"}
    assert "no canary to promote" in serve("promote", "-n", "shop", place=started, code=1)
    assert "percent from 0 to 100" in run(4, "--canary", "200", code=1)


def test_the_rest_api(place: Path) -> None:
    """`start --admin-port` says where it is and where the token lies."""
    command("start", "--head", "--num-cpus", "2", place=place)
    printed = serve("start", "--http-port", "0", "--admin-port", "0", "--app-dir", ".", place=place)
    found = re.search(r"REST API at (\S+); the token is in (\S+)", printed)
    assert found is not None, printed
    request = urllib.request.Request(
        found[1],
        json.dumps({"applications": [{"import_path": "shop.app:app"}]}).encode(),
        {"Authorization": f"Bearer {Path(found[2]).read_text()}"},
        method="PUT",
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    assert get(address_of(place))["word"] == "hello"
    serve("shutdown", "-y", place=place)


@pytest.mark.time_limit(120)
def test_a_version_that_does_not_start(started: Path) -> None:
    serve("deploy", "serve.yaml", place=started)
    address = address_of(started)
    before = get(f"{address}/two")["pid"]
    code = started / "shop" / "app.py"
    code.write_text(APP.replace("self.config = None", "raise KeyError('no weights')"))
    assert "KeyError: 'no weights'" in serve("deploy", "serve.yaml", place=started, code=1)
    assert get(f"{address}/two")["pid"] == before
    # A module beside that of the deployment is a part of the version, too.
    code.write_text(APP)
    (started / "shop" / "words.py").write_text("greeting = 'good day'\n")
    serve("deploy", "serve.yaml", place=started)
    assert get(f"{address}/two")["word"] == "good day"


def test_build_then_run(place: Path) -> None:
    printed = serve("build", "shop.app:app", "-o", "made.yaml", "--app-dir", ".", place=place)
    assert "skate serve deploy made.yaml" in printed
    with Running("made.yaml", "--port", "0", place=place) as running:
        assert get(running.address)["word"] == "hello"
    assert session.living() == []
    assert "has no nothing" in serve("build", "shop.app:nothing", place=place, code=1)


def test_run_with_arguments_from_another_folder(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    arguments = (
        "shop.app:build",
        "size=large",
        "--app-dir",
        str(place),
        "--port",
        "0",
        "--route-prefix",
        "/x",
    )
    with Running(*arguments, place=elsewhere) as running:
        assert running.address.endswith("/x")
        assert get(running.address)["arguments"] == {"size": "large"}


def test_mistakes_on_the_command_line(place: Path) -> None:
    for arguments, text in (
        (("run", "shop.app:app", "large"), "name=value, got 'large'"),
        (("run", "serve.yaml", "a=1"), "is a config file"),
        (("run", "nonsense"), "module:application"),
        (("run", "shop.app:app", "--reload", "--non-blocking"), "leave out --non-blocking"),
        (("deploy", "serve.yaml"), "no session"),
    ):
        assert text in serve(*arguments, place=place, code=1)
    for target, text in (
        ("shop.app:nope", "the module shop.app has no nope; its applications are app"),
        ("shop.nothing:app", "No module named 'shop.nothing'"),
        ("shop.words:greeting", "neither an application"),
    ):
        printed = serve("run", target, "--port", "0", place=place, code=1)
        assert text in printed and printed.count("\n") == 1, printed
    assert session.living() == []


@pytest.mark.time_limit(120)
def test_run_ends_its_own_applications_only(started: Path) -> None:
    """Those that run in the session stay: after Ctrl-C, after a failed start, after Ctrl-C during a start."""
    serve("deploy", "serve.yaml", place=started)
    one = f"{address_of(started)}/one"
    pid = get(one)["pid"]
    with Running("shop.app:app", "--name", "mine", "--route-prefix", "/mine", place=started) as running:
        assert get(running.address)["word"] == "hello"
    (started / "broken.py").write_text(APP.replace("self.config = None", "raise KeyError('no weights')"))
    mine = ("--name", "mine", "--route-prefix", "/mine")
    assert "KeyError: 'no weights'" in serve("run", "broken:app", *mine, place=started, code=1)
    (started / "slow.py").write_text(
        APP.replace("self.config = None", "open('begun', 'w').close(); __import__('time').sleep(1000)")
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "skate", "serve", "run", "slow:app", *mine],
        cwd=started, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    while not (started / "begun").exists():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode == 130 and "Traceback" not in printed
    assert sorted(json.loads(serve("status", "--json", place=started))["applications"]) == ["one", "two"]
    assert get(one)["pid"] == pid


@pytest.mark.time_limit(120)
def test_reload(place: Path, wait_until: Wait) -> None:
    """A changed file is served in place; one that does not work changes nothing; --reload goes on."""
    with Running("shop.app:app", "--reload", "--port", "0", place=place) as running:
        assert get(running.address)["word"] == "hello"
        (place / "shop" / "words.py").write_text("greeting = 'good day'\n")
        answers = [get(running.address)]

        def is_new() -> bool:
            answers.append(get(running.address))
            return bool(answers[-1]["word"] == "good day")

        wait_until(is_new)
        working = answers[-1]["pid"]  # of that answer: the replica before may still give the next one

        (place / "shop" / "app.py").write_text("this is no Python")
        running.wait_for("SyntaxError")
        (place / "shop" / "app.py").write_text(APP.replace("self.config = None", "raise KeyError('bad')"))
        running.wait_for("KeyError: 'bad'")
        assert get(running.address)["pid"] == working

        (place / "shop" / "more.py").write_text("greeting = 'from a new file'\n")
        (place / "shop" / "app.py").write_text(APP.replace("shop.words", "shop.more"))
        wait_until(lambda: get(running.address)["word"] == "from a new file")
        (place / "shop" / "more.py").write_text("greeting = 'changed'\n")
        wait_until(lambda: get(running.address)["word"] == "changed")


class Running:
    """`skate serve run` until the end of the block; ended by Ctrl-C."""

    def __init__(self, *arguments: str, place: Path) -> None:
        self._arguments = arguments
        self._place = place

    def __enter__(self) -> Running:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "skate", "serve", "run", *self._arguments],
            cwd=self._place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.address = self.wait_for("answers at ").split()[-1]
        return self

    def wait_for(self, text: str) -> str:
        """Return the first line from now on that has a text."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if text in line:
                return line
        raise AssertionError(f"the command ended without {text!r}")

    def __exit__(self, *_: object) -> None:
        os.kill(self._process.pid, signal.SIGINT)
        self._process.communicate()
        assert self._process.returncode == 0


def test_grpc_on_the_command_line(place: Path) -> None:
    done = command("start", "--head", "--num-cpus", "2", place=place)
    assert done.returncode == 0, done.stderr
    (place / "own_services.py").write_text("def add_nothing(servicer, server): pass\n")
    option = ("--grpc-servicer-functions", "own_services.add_nothing")
    printed = serve("start", "--http-port", "0", "--grpc-port", "0", *option, place=place)
    (address,) = re.findall(r"gRPC at (127\.0\.0\.1:\d+)", printed)
    assert f"grpc://{address}" in json.loads(serve("status", "--json", place=place))["proxies"]
    with grpc.insecure_channel(address) as channel:
        assert b"success" in channel.unary_unary("/ray.serve.RayServeAPIService/Healthz")(b"")
    assert "own_services.add_nothing" in serve("build", "shop.app:app", *option, place=place)


def test_an_application_that_is_written_for_ray(started: Path) -> None:
    """It runs as it is, in a session and until Ctrl-C, and `build` reads it."""
    source = APP.replace("from skate import serve", "import ray\nfrom ray import serve")
    (started / "shop" / "app.py").write_text(source)
    serve("deploy", "serve.yaml", place=started)
    assert get(f"{address_of(started)}/one")["arguments"] == {"size": 3}
    assert "name: Model" in serve("build", "shop.app:app", place=started)
