"""Several models in one replica: the least recently used goes, loads are shared, failures change nothing."""

from __future__ import annotations

import asyncio

import pytest

from skate import serve

from .conftest import Web


class Models:
    def __init__(self) -> None:
        self.loads: list[str] = []
        self.go = asyncio.Event()
        self.go.set()

    @serve.multiplexed(max_num_models_per_replica=2)
    async def model(self, model_id: str) -> str:
        self.loads.append(model_id)
        await self.go.wait()
        if model_id == "broken":
            raise KeyError(model_id)
        return f"<{model_id}>"


def test_the_least_recently_used_model_goes() -> None:
    async def main() -> None:
        models = Models()
        for model_id in ("a", "b", "a", "c", "a", "b"):
            assert await models.model(model_id) == f"<{model_id}>"
        assert models.loads == ["a", "b", "c", "b"]

    asyncio.run(main())


def test_calls_for_a_model_that_is_being_loaded_wait_for_it() -> None:
    async def main() -> None:
        models = Models()
        models.go.clear()
        calls = [asyncio.ensure_future(models.model("a")) for _ in range(3)]
        await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.sleep(0)
        models.go.set()
        assert await asyncio.gather(*calls[1:]) == ["<a>", "<a>"]
        assert models.loads == ["a"]

    asyncio.run(main())


def test_a_failed_load_is_the_callers_and_drops_nothing() -> None:
    async def main() -> None:
        models = Models()
        await models.model("a")
        await models.model("b")
        with pytest.raises(KeyError):
            await models.model("broken")
        await models.model("a")
        await models.model("b")
        assert models.loads == ["a", "b", "broken"]
        with pytest.raises(ValueError, match="cannot be empty"):
            await models.model("")

    asyncio.run(main())


def test_wrong_uses() -> None:
    with pytest.raises(TypeError, match="async"):
        serve.multiplexed(lambda model_id: model_id)
    for wrong in (0, -2):
        with pytest.raises(ValueError, match="must be positive"):
            serve.multiplexed(max_num_models_per_replica=wrong)


@serve.deployment
class Server(Models):
    async def __call__(self, request: object) -> str:
        return str(await self.model(serve.get_multiplexed_model_id()))

    async def of_handle(self) -> str:
        return serve.get_multiplexed_model_id()


def test_ids_come_with_requests(web: Web) -> None:
    handle = serve.run(Server.bind())
    assert web("/", serve_multiplexed_model_id="m1").text == "<m1>"
    assert handle.options(multiplexed_model_id="m2").of_handle.remote().result() == "m2"
    assert handle.of_handle.remote().result() == ""
