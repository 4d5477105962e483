"""What typical mistakes in programs and import paths look like: the deployment, the cause, and no frames of
the runtime."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from skate import compat, serve
from skate.cli.main import main
from skate.serve._build import target_of
from skate.serve._config import ConfigError
from skate.serve._config_file import read
from skate.serve._deploy import build
from skate.serve._loading import BuildError

from .conftest import Web

LOCK = threading.Lock()


@serve.deployment
class Model:
    def __init__(self, size: Any = 0) -> None:
        self.size = size

    async def __call__(self, request: Any) -> int:
        return 1

    def predict(self, x: int) -> int:
        return x

    async def later(self, x: int) -> int:
        return x

    def many(self) -> Any:
        yield 1

    def lock(self) -> Any:
        return threading.Lock()


@serve.deployment
class Locking:
    def __call__(self, request: Any) -> int:
        with LOCK:
            return 1


@pytest.mark.parametrize(
    ("application", "where"),
    [
        (
            Locking.bind(),
            "deployment 'Locking' .* the global 'LOCK' used by Locking.__call__ is _thread.lock",
        ),
        (Model.bind(threading.Lock()), "deployment 'Model' .* argument 0 of bind.. is _thread.lock"),
        (Model.bind(size=[threading.Lock()]), r"the argument 'size' of bind..\[0\] is _thread.lock"),
    ],
)
def test_what_cannot_be_sent_is_named(application: Any, where: str) -> None:
    with pytest.raises(TypeError, match=f"{where} .*Make it in the constructor of"):
        target_of(application, "default", "/")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("shop.py:app", "a module is named without .py, shop"),
        ("./shop:app", "is a path: a module has a name such as package.module"),
        ("shop:Shop", "shop:Shop is Deployment: neither an application"),
        ("broken:app", "(?s)broken.py.*line 1.*SyntaxError"),
    ],
)
def test_import_paths_that_name_no_application(path: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from skate import serve\n@serve.deployment\nclass Shop: pass\n")
    (tmp_path / "broken.py").write_text("def app(:\n")
    config = {"name": "default", "import_path": path}
    with pytest.raises(BuildError, match=text):
        build(config, [str(tmp_path)])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs in this process, which is not to take skate for ray for good."""
    monkeypatch.setattr(compat, "install", lambda: None)


def test_a_config_file_that_is_not_there(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "run", "missing.yaml"]) == 1
    assert "there is no file missing.yaml" in capsys.readouterr().err


def test_a_config_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing.yaml: the file cannot be read: No such file"):
        read(str(tmp_path / "missing.yaml"))


def test_a_missing_package_is_one_line(
    here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["serve", "build", "app:app"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_errors_of_wrong_calls_have_no_frames_of_the_runtime(web: Web) -> None:
    handle: Any = serve.run(Model.bind())
    for call, text in (
        (lambda: handle.predct.remote(1), "Tried to call a method 'predct' that does not exist"),
        (lambda: handle.predict.remote(), r"predict\(\) missing 1 required positional argument: 'x'"),
        (lambda: handle.many.remote(), "'many' of deployment Model is a generator: call it by `handle.opt"),
        (lambda: handle.lock.remote(), "cannot return it: the result is a _thread.lock"),
        (lambda: handle.later.remote(y=1), r"later\(\) got an unexpected keyword argument 'y'"),
    ):
        with pytest.raises(Exception, match=text) as caught:
            call().result()
        assert 'File "' not in str(caught.value)
    with pytest.raises(RuntimeError, match=r"got an unexpected keyword argument 'volume'") as refused:
        serve.run(Model.bind(volume=1))
    assert 'File "' not in str(refused.value)


def test_a_response_that_was_not_awaited_is_named(
    web: Web, wait_until: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    @serve.deployment
    class Outer:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, request: Any) -> Any:
            return self.inner.later.remote(1)

    serve.run(Outer.bind(Model.bind()))
    assert web("/").status == 500
    shown = ""

    def is_named() -> bool:
        nonlocal shown
        shown += capfd.readouterr().err
        return "that was not awaited: return `await handle.remote(...)`" in shown

    wait_until(is_named)
    assert 'File "' not in shown
