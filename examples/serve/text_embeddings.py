"""Embeddings of texts: requests that come at the same time run through the model as one batch.

The model is WordLlama, 256 numbers for each text; its weights are inside the wheel:
``pip install wordllama 'skate-runtime[serve]'``.
"""

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from skate import serve


@serve.deployment(max_ongoing_requests=100)
class Embedder:
    def __init__(self):
        import wordllama

        # Left alone, it looks for its files in a cache folder, and downloads what is not there.
        folder = Path(wordllama.__file__).parent
        self.model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        self.batches = []

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.01)
    def embed(self, texts: list[str]):
        """Runs in a thread: the next batch gathers meanwhile."""
        self.batches.append(len(texts))
        return list(self.model.embed(texts, norm=True))

    async def __call__(self, request):
        return {"embedding": await self.embed((await request.json())["text"])}

    def largest_batch(self):
        return max(self.batches)


app = Embedder.bind()

TEXTS = [
    "The harbour was full of fishing boats",
    "Ships lay at anchor in the port",
    "Add two eggs and a cup of flour",
    "Whisk the butter with the sugar",
]


def embedding(address, text):
    body = json.dumps({"text": text}).encode()
    with urllib.request.urlopen(f"http://{address}/", data=body) as answer:
        return json.load(answer)["embedding"]


def main():
    serve.start(http_options={"port": 0})
    handle = serve.run(app)
    (address,) = serve.status().proxies
    with ThreadPoolExecutor(16) as clients:
        vectors = list(clients.map(lambda text: embedding(address, text), TEXTS * 50))
    print(f"{len(vectors)} texts, {len(vectors[0])} numbers each")
    print("batches of several texts:", handle.largest_batch.remote().result() > 1)
    for here, text in enumerate(TEXTS):
        near = max(
            (sum(a * b for a, b in zip(vectors[here], vectors[other], strict=True)), TEXTS[other])
            for other in range(len(TEXTS))
            if other != here
        )
        print(f"{text!r} is nearest to {near[1]!r}")
    serve.shutdown()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        print("""curl http://127.0.0.1:8000 -d '{"text": "a boat"}'""")
        serve.run(app, blocking=True)
    else:
        main()
