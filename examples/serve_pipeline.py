"""A composed application behind HTTP: two deployments, batches, a stream, an update that loses no request.

Run it: ``python examples/serve_pipeline.py`` (needs ``pip install 'skate-runtime[serve]'``)
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import skate
from skate import serve


@serve.deployment(max_ongoing_requests=64)
class Embedder:
    """Stands for a model that is faster with many texts at once."""

    def __init__(self, version: int) -> None:
        self.version = version

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def __call__(self, texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), float(self.version)] for text in texts]


@serve.deployment(max_ongoing_requests=64)
class Search:
    """The entrance: takes JSON by HTTP, or a text by its handle."""

    def __init__(self, embedder: Any) -> None:
        self.embedder = embedder

    async def __call__(self, request: Any) -> dict[str, Any]:
        query = await request.json()
        return {"query": query["text"], "vector": await self.embedder.remote(query["text"])}

    async def words(self, text: str) -> AsyncIterator[list[float]]:
        for word in text.split():
            yield await self.embedder.remote(word)


def ask(address: str, text: str) -> Any:
    body = json.dumps({"text": text}).encode()
    with urllib.request.urlopen(f"http://{address}/search", data=body) as answer:
        return json.loads(answer.read())


def main() -> None:
    skate.init()
    serve.start(http_options={"port": 0})
    handle = serve.run(Search.bind(Embedder.bind(1)), route_prefix="/search")
    (address,) = serve.status().proxies
    print(ask(address, "first version"))
    print(list(handle.options(stream=True).words.remote("a few words")))
    # The same application with another argument: the Embedder's replica is replaced, the entrance goes on.
    serve.run(Search.bind(Embedder.bind(2)), route_prefix="/search")
    print(ask(address, "second version"))
    serve.shutdown()
    skate.shutdown()


if __name__ == "__main__":
    main()
