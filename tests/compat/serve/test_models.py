"""``serve.multiplexed``."""

from __future__ import annotations

import pytest
from ray import serve

from .helpers import deployment, differs, lines, note


class Weights:
    def __init__(self, name, folder):
        self.name, self.folder = name, folder

    def __del__(self):
        note(self.folder, f"drop {self.name}")


class Models:
    """Loads what it is asked for, and notes it."""

    def __init__(self, folder):
        self.folder = folder

    async def load(self, name):
        if name == "bad":
            raise KeyError("no such model")
        note(self.folder, f"load {name}")
        return Weights(name, self.folder)

    async def __call__(self):
        return (await self.get(serve.get_multiplexed_model_id())).name

    async def named(self, name):
        return (await self.get(name)).name

    async def given(self):
        return serve.get_multiplexed_model_id()


@deployment()
class Two(Models):
    @serve.multiplexed(max_num_models_per_replica=2)
    async def get(self, name):
        return await self.load(name)


@deployment()
class Unlimited(Models):
    @serve.multiplexed(max_num_models_per_replica=-1)
    async def get(self, name):
        return await self.load(name)


def ask(handle, names):
    return [handle.options(multiplexed_model_id=name).remote().result() for name in names]


def test_models_are_loaded_once(run, tmp_path):
    handle = run(Two.bind(str(tmp_path)))
    assert ask(handle, "abab") == list("abab")
    assert lines(tmp_path) == ["load a", "load b"]


def test_the_least_recently_used_one_goes(run, tmp_path):
    handle = run(Two.bind(str(tmp_path)))
    ask(handle, "abac")
    assert [one for one in lines(tmp_path) if one.startswith("load")] == ["load a", "load b", "load c"]
    assert {one for one in lines(tmp_path) if one.startswith("drop")} == {"drop b"}
    assert ask(handle, "a") == ["a"]
    assert lines(tmp_path).count("load a") == 1


@differs(on="ray", reason="It drops a model before it loads the next. Here after: a failed load costs none.")
def test_a_failed_load_drops_nothing(run, tmp_path):
    handle = run(Two.bind(str(tmp_path)))
    ask(handle, "ab")
    with pytest.raises(KeyError):
        ask(handle, ["bad"])
    ask(handle, "ab")
    assert lines(tmp_path) == ["load a", "load b"]


@differs(on="ray", reason="__del__ is called, and then Python calls it again.")
def test_a_model_is_dropped_once(run, tmp_path):
    handle = run(Two.bind(str(tmp_path)))
    ask(handle, "abcd")
    assert lines(tmp_path).count("drop a") == 1


def test_a_failed_load_raises(run, tmp_path):
    handle = run(Two.bind(str(tmp_path)))
    with pytest.raises(KeyError):
        ask(handle, ["bad"])


def test_no_limit(run, tmp_path):
    handle = run(Unlimited.bind(str(tmp_path)))
    ask(handle, "abcdefabcdef")
    assert lines(tmp_path) == [f"load {name}" for name in "abcdef"]


def test_an_empty_name_is_refused(run, tmp_path):
    with pytest.raises(ValueError):
        run(Two.bind(str(tmp_path))).named.remote("").result()


def test_without_a_model_its_name_is_empty(run, tmp_path):
    assert run(Two.bind(str(tmp_path))).given.remote().result() == ""


@pytest.mark.parametrize("header", ["serve_multiplexed_model_id", "serve-multiplexed-model-id"])
def test_the_header_names_the_model(run, web, header):
    @deployment()
    class Named:
        async def __call__(self, request):
            return serve.get_multiplexed_model_id()

    run(Named.bind(), name="named", route_prefix="/named")
    connection = web.connect()
    connection.request("GET", "/named", headers={header: "m1"})
    assert connection.getresponse().read() == b"m1"
    connection.close()


def test_limits_are_checked():
    with pytest.raises(ValueError):
        serve.multiplexed(max_num_models_per_replica=0)
    with pytest.raises(TypeError):

        @serve.multiplexed
        def sync(self, name):
            return name
