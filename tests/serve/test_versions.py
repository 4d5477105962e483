"""The version of a deployment: a hash of code, arguments and options, whatever else the process does."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skate import serve
from skate.serve._build import source_files, target_of
from skate.serve.openai import openai_app

MODELS = """
from skate import serve

@serve.deployment
class Model:
    def __init__(self, number=0):
        pass

    def generate(self, prompt):
        from shop_of_versions import prices
        yield str(prices.PRICE)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a user's: a module with a deployment, and one that is imported when it runs."""
    folder = tmp_path / "shop_of_versions"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "models.py").write_text(MODELS)
    (folder / "prices.py").write_text("PRICE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [one for one in sys.modules if one.partition(".")[0] == folder.name]:
        del sys.modules[name]


def version(application: Any, name: str = "Model") -> str:
    return target_of(application, "default", None).deployments[name].version


def test_a_module_that_is_loaded_later_makes_no_other_version(package: Path) -> None:
    model = importlib.import_module("shop_of_versions.models").Model
    files = source_files(model.func_or_class)
    assert [Path(one).name for one in files] == ["__init__.py", "models.py", "prices.py"]
    before = version(model.bind())
    importlib.import_module("shop_of_versions.prices")
    assert version(model.bind()) == before
    assert version(model.bind(1)) != before
    assert version(model.options(ray_actor_options={"num_cpus": 1}).bind()) != before
    assert version(model.options(num_replicas=3).bind()) == before


def test_another_file_of_the_package_makes_another_version(package: Path) -> None:
    model = importlib.import_module("shop_of_versions.models").Model
    before = version(model.bind())
    (package / "prices.py").write_text("PRICE = 2\n")
    assert version(model.bind()) != before


def test_modules_of_skate_make_no_other_version(package: Path) -> None:
    model = importlib.import_module("shop_of_versions.models").Model
    before = version(openai_app({"m": model.bind()}), "OpenAI")
    importlib.import_module("skate.serve.inference_protocol")
    assert version(openai_app({"m": model.bind()}), "OpenAI") == before


def test_the_same_code_in_another_file_is_the_same_version() -> None:
    """As after a program has moved to another folder, or a cell of a notebook has been run again."""

    def made_in(file: str) -> Any:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile("class Model:\n    def __call__(self):\n        return 5", file, "exec"), names)
        return serve.deployment(names["Model"])

    assert version(made_in("/a/app.py").bind()) == version(made_in("/another/app.py").bind())
