"""A composed application: an entrance asks an embedder for a vector, then all shards of an index at once.

It searches the reference of Python's language, which every Python brings along, by meaning. Each part scales
on its own. The model's weights are inside the wheel: ``pip install wordllama 'skate-runtime[serve]'``.
"""

import asyncio
import heapq
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from skate import serve


@serve.deployment(max_ongoing_requests=100)
class Embedder:
    def __init__(self):
        import wordllama

        folder = Path(wordllama.__file__).parent
        self.model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    def embed(self, texts: list[str]):
        return list(self.model.embed(texts, norm=True))

    def embed_all(self, texts: list[str]):
        return self.model.embed(texts, norm=True)


@serve.deployment(max_ongoing_requests=100)
class Shard:
    """A part of the paragraphs, with their vectors."""

    async def __init__(self, embedder, part: int, parts: int):
        paragraphs = [
            (topic, " ".join(paragraph.split()))
            for topic, text in sorted(topics.items())
            for paragraph in text.split("\n\n")
            if len(paragraph.split()) > 15
        ]
        self.paragraphs = paragraphs[part::parts]
        self.vectors = await embedder.embed_all.remote([text for _, text in self.paragraphs])

    def nearest(self, vector, count: int):
        scores = self.vectors @ vector
        best = np.argsort(-scores)[:count]
        return [(float(scores[one]), *self.paragraphs[one]) for one in best]


@serve.deployment(max_ongoing_requests=100)
class Search:
    def __init__(self, embedder, shards):
        self.embedder = embedder
        self.shards = shards

    async def __call__(self, request):
        return await self.search(request.query_params["q"])

    async def search(self, question: str, count: int = 3):
        vector = self.embedder.embed.remote(question)
        # The vector goes from the embedder to the shards, not through this process.
        found = await asyncio.gather(*(shard.nearest.remote(vector, count) for shard in self.shards))
        best = heapq.nlargest(count, (one for part in found for one in part))
        return [{"score": round(score, 3), "topic": topic, "text": text} for score, topic, text in best]


def build():
    embedder = Embedder.bind()
    return Search.bind(embedder, [Shard.bind(embedder, part, 2) for part in range(2)])


def main():
    serve.start(http_options={"port": 0})
    serve.run(build(), route_prefix="/search")
    (address,) = serve.status().proxies
    for question in ("how do I catch an exception", "breakpoint in the debugger"):
        query = urllib.parse.urlencode({"q": question})
        with urllib.request.urlopen(f"http://{address}/search?{query}") as answer:
            best = json.load(answer)[0]
        print(f"{question}?")
        print(f"  {best['topic']}: {best['text'][:70]}...")
    print("deployments:", *sorted(serve.status().applications["default"].deployments))
    serve.shutdown()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        print("curl 'http://127.0.0.1:8000/search?q=how+do+I+read+a+number'")
        serve.run(build(), route_prefix="/search", blocking=True)
    else:
        main()
