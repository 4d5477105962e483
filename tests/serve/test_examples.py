"""The examples of skate.serve run as a user runs them, and the page of one shows in Chromium what was read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "serve"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: They load models, some of them several.
pytestmark = pytest.mark.time_limit(240)

#: A line that each prints.
SAYS = {
    "grpc_spelling.py": "an iterable object returns its members",
    "image_classifier.py": "the same from a run: True",
    "ocr_service.py": "400 this is no picture that can be decoded",
    "search_pipeline.py": "deployments: Embedder Search Shard Shard_1",
    "text_embeddings.py": "'Add two eggs and a cup of flour' is nearest to 'Whisk the butter with the sugar'",
    "text_generator.py": "a client has gone, and its generation has ended",
    "update_under_load.py": "requests that failed: 0",
}
#: Packages that examples need besides the extra ``serve``.
NEEDS = {
    "image_classifier.py": ("rapidocr", "onnxruntime", "PIL", "pyarrow"),
    "ocr_service.py": ("rapidocr", "onnxruntime", "PIL"),
    "search_pipeline.py": ("wordllama",),
    "text_embeddings.py": ("wordllama",),
}


def need(name: str) -> None:
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)


def test_all_examples_are_known() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SAYS}


@pytest.mark.parametrize("name", sorted(SAYS))
def test_example(name: str, tmp_path: Path) -> None:
    need(name)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert SAYS[name] in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(SAYS))
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 150


def test_an_example_stays_up(tmp_path: Path, wait_until: Callable[[Callable[[], object]], None]) -> None:
    """With ``--serve`` it answers until Ctrl-C, at the address that it prints. (The port may be in use here.)"""
    code = (
        "import sys; from skate import serve; serve.start(http_options={'port': 0});"
        "print(*serve.status().proxies, flush=True);"
        f"sys.argv = ['x', '--serve']; exec(compile(open({str(EXAMPLES / 'text_generator.py')!r}).read(), 'x', 'exec'))"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert program.stdout is not None
    try:
        address = program.stdout.readline().strip()

        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"http://{address}/?prompt=The+value&count=3") as answer:
                    return answer.read().endswith(b"data: [DONE]\n\n")
            except OSError:
                return False

        wait_until(answers)
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
def test_the_page_shows_the_lines_and_their_boxes(tmp_path: Path) -> None:
    need("ocr_service.py")
    code = (
        f"import os, subprocess, sys; sys.path.insert(0, {str(EXAMPLES)!r});"
        "import ocr_service; from skate import serve;"
        "serve.start(http_options={'port': 0}); serve.run(ocr_service.build());"
        "(address,) = serve.status().proxies;"
        "subprocess.run([*sys.argv[1:], f'http://{address}/#sample'], check=True);"
        "serve.shutdown()"
    )
    browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
               "--virtual-time-budget=30000", "--dump-dom"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, browser)],
        env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = done.stdout
    assert re.search(r'<p id="state" role="status">3 lines, read in \d+ ms</p>', page), page
    lines = re.findall(r"<li>(.*?)<small>", page)
    # A word of each: which fonts there are differs between machines.
    assert [word in line for word, line in zip(("1907", "noon", "step"), lines, strict=True)] == [True] * 3, (
        page
    )
    assert page.count("<polygon points=") == 3
