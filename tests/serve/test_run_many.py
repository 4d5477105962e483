"""``serve.run_many``: several applications at once."""

from __future__ import annotations

import os
from typing import Any

import pytest

from skate import serve

from .conftest import Web


@serve.deployment
class Model:
    def __init__(self, name: str) -> None:
        if not name:
            raise KeyError("no name")
        self.name = name

    def __call__(self, request: Any = None) -> str:
        return self.name

    def pid(self) -> int:
        return os.getpid()


def test_all_of_them_run(web: Web) -> None:
    handles = serve.run_many(
        [
            serve.RunTarget(Model.bind("one"), "one", "/one"),
            serve.RunTarget(Model.bind("two"), "two", "/two"),
            serve.RunTarget(Model.bind("three"), name="three", route_prefix=None),
        ]
    )
    assert [one.remote().result() for one in handles] == ["one", "two", "three"]
    assert [web(path).text for path in ("/one", "/two")] == ["one", "two"]
    pids = [one.pid.remote().result() for one in handles]
    # Two may change their prefixes in one step; code that stays goes on.
    again = serve.run_many(
        [
            serve.RunTarget(Model.bind("one"), "one", "/two"),
            serve.RunTarget(Model.bind("other"), "two", "/one"),
        ],
        wait_for_applications_running=False,
    )
    serve.run_many([serve.RunTarget(Model.bind("other"), "two", "/one")])
    assert [web(path).text for path in ("/one", "/two")] == ["other", "one"]
    assert again[0].pid.remote().result() == pids[0]
    assert sorted(serve.status().applications) == ["one", "three", "two"]


def test_what_cannot_be(web: Web) -> None:
    serve.run(Model.bind("first"), name="first", route_prefix="/first")
    with pytest.raises(serve.exceptions.RayServeException, match="Prefix /first is being used"):
        serve.run_many(
            [
                serve.RunTarget(Model.bind("a"), "a", "/a"),
                serve.RunTarget(Model.bind("b"), "b", "/first"),
            ]
        )
    assert [*serve.status().applications] == ["first"]
    for name, prefix in (("a", "/b"), ("b", "/a")):
        with pytest.raises(ValueError, match="two of the applications have the same"):
            serve.run_many(
                [
                    serve.RunTarget(Model.bind("a"), "a", "/a"),
                    serve.RunTarget(Model.bind("b"), name, prefix),
                ]
            )
    with pytest.raises(TypeError, match="expects an `Application`"):
        serve.RunTarget(Model)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"application bad failed: Model: (.|\n)*no name"):
        serve.run_many(
            [
                serve.RunTarget(Model.bind("a"), "good", "/a"),
                serve.RunTarget(Model.bind(""), "bad", "/b"),
            ]
        )
    assert serve.status().applications["good"].status == "RUNNING"
    assert web("/a").text == "a"
