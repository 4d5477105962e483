"""Sessions and processes around serve: ports, drivers that come and go, programs that say ray."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import skate
from skate import serve

PROGRAM = """
import urllib.request
import ray
from ray import serve
from ray.serve.deployment import Deployment
from ray.serve.handle import DeploymentHandle

@serve.deployment
class Doubler:
    async def __call__(self, number):
        return 2 * number

@serve.deployment
class Front:
    def __init__(self, inner: DeploymentHandle):
        self.inner = inner
    async def __call__(self, request):
        return str(await self.inner.remote(int(request.query_params["n"])))

serve.start(http_options={"port": 0})
app = Front.bind(Doubler.bind())
handle = serve.run(app)
(where,) = serve.status().proxies
print(urllib.request.urlopen(f"http://{where}/?n=21").read().decode())
print(type(Front) is Deployment, type(handle).__module__, serve.status().applications["default"].status)
serve.shutdown()
"""


def test_a_program_that_says_ray(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "skate", "run", str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["42", "True", "ray.serve.handle", "RUNNING"], done.stderr


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        skate.init(num_cpus=1)
        try:
            with pytest.raises(RuntimeError) as caught:
                serve.start(http_options={"port": port})
            refusal = f"serve cannot listen on 127.0.0.1:{port}: Address already in use. Another program uses"
            assert str(caught.value).startswith(refusal), "it is one line, without a traceback"
            serve.start(http_options={"port": 0})
            assert len(serve.status().proxies) == 1
        finally:
            serve.shutdown()
            skate.shutdown()


def test_one_session_after_the_other(wait_until: Callable[[Callable[[], object]], None]) -> None:
    @serve.deployment
    class Model:
        def __call__(self, number: int) -> int:
            return number + 1

    for number in range(2):
        skate.init(num_cpus=1)
        handle = serve.run(Model.bind(), route_prefix=None)
        assert handle.remote(number).result() == number + 1
        if number:
            serve.shutdown()
        skate.shutdown()
        wait_until(lambda: not any(one.name == "skate-serve" for one in threading.enumerate()))
    with pytest.raises(serve.exceptions.RayServeException):
        serve.get_app_handle("default")
    assert not skate.is_initialized()


def test_a_program_that_blocks_says_where_it_answers(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "from skate import serve\n"
        "@serve.deployment\n"
        "class Model:\n"
        "    async def __call__(self, request): return 'hello'\n"
        "serve.start(http_options={'port': 0})\n"
        "serve.run(Model.bind(), route_prefix='/m', blocking=True)\n"
        "print('ended')\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("Application 'default' answers at http://127.0.0.1:")
        with urllib.request.urlopen(said.split()[-1]) as answer:
            assert answer.read() == b"hello"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
        assert (process.returncode, out) == (0, "ended\n")


def test_the_command_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "app.py").write_text(
        "from skate import serve\n"
        "@serve.deployment\n"
        "class Model:\n"
        "    def __init__(self, word): self.word = word\n"
        "    async def __call__(self, request): return self.word\n"
        "app = Model.bind('hello')\n"
        "def make(args): return Model.bind(args['word'])\n"
    )

    def skate_(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "skate", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    skate_("start", "--head", "--num-cpus", "1")
    try:
        said = skate_("serve", "run", "app:app", "--port", "0", "--non-blocking")
        address = said.split()[-1]
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == b"hello"
        said = skate_("serve", "run", "app:make", "word=bye", "--non-blocking")
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == b"bye"
        status = skate_("serve", "status")
        assert "Model: HEALTHY, 1 running" in status
        skate_("serve", "shutdown")
        assert "no applications" in skate_("serve", "status")
    finally:
        skate_("stop")


def test_what_the_zygote_imports_for_serve_starts_and_opens_nothing() -> None:
    """It forks afterwards."""
    source = (
        "import importlib, os, sys, skate.api\n"
        "from skate.serve import _instance\n"
        "facts = lambda: [len(os.listdir(f'/proc/self/{what}')) for what in ('task', 'fd')]\n"
        "before = facts()\n"
        "for name in (*_instance._IMPORTS, *_instance._HTTP_IMPORTS): importlib.import_module(name)\n"
        "assert facts() == before == [1, before[1]], (facts(), before)\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True)
