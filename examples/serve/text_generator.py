"""A text generator whose words come as server-sent events, one by one.

The model is of the oldest kind: it counts which word follows which two in the reference of Python's
language, which every Python brings along. All texts grow by a word in each step of one loop, which new ones
join while it runs. When a client goes, its text leaves.
"""

import collections
import itertools
import json
import random
import sys
import urllib.parse
import urllib.request
from pydoc_data.topics import topics

from starlette.responses import StreamingResponse

from skate import serve


class Trigrams:
    def __init__(self):
        self.next = collections.defaultdict(list)
        for text in topics.values():
            words = text.split()
            for one, two, three in zip(words, words[1:], words[2:], strict=False):
                self.next[one, two].append(three)
                self.next[two].append(three)

    def generate(self, prompt, seed):
        """Yield words that go on with a text, until none is known."""
        chance = random.Random(seed)
        *_, one, two = ["", "", *prompt.split()]
        while follows := self.next.get((one, two)) or self.next.get(two):
            one, two = two, chance.choice(follows)
            yield two


@serve.deployment(max_ongoing_requests=100)
class Generator:
    def __init__(self):
        self.model = Trigrams()
        self.running = 0

    @serve.batch(max_batch_size=32)
    async def words(self, stream: serve.BatchStream):
        """Each step adds a word to every text, as a step of a neural network does."""
        async for step in stream:
            self.running = len(step.items)
            for item in step.joined:
                prompt, count, seed = item.args
                item.state = itertools.islice(self.model.generate(prompt, seed), count)
            for item in step.items:
                word = next(item.state, None)
                if word is None:
                    item.finish()
                else:
                    item.send(word)
        self.running = 0

    async def events(self, prompt, count, seed):
        async for word in self.words(prompt, count, seed):
            yield f"data: {json.dumps(word)}\n\n"
        yield "data: [DONE]\n\n"

    async def __call__(self, request):
        asked = request.query_params
        events = self.events(asked["prompt"], int(asked.get("count", 20)), int(asked.get("seed", 0)))
        return StreamingResponse(events, media_type="text/event-stream")

    def are_running(self):
        return self.running


app = Generator.bind()


def main():
    serve.start(http_options={"port": 0})
    handle = serve.run(app)
    (address,) = serve.status().proxies
    question = urllib.parse.urlencode({"prompt": "The value", "count": 12, "seed": 3})
    with urllib.request.urlopen(f"http://{address}/?{question}") as answer:
        print("The value", end="")
        for line in answer:
            if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                print("", json.loads(line.removeprefix(b"data: ")), end="")
        print()
    # The same stream by the handle.
    print(*handle.options(stream=True).words.remote("The value", 12, 3))

    question = urllib.parse.urlencode({"prompt": "The value", "count": 10**9})
    with urllib.request.urlopen(f"http://{address}/?{question}") as answer:
        answer.readline()
    while handle.are_running.remote().result():
        pass
    print("a client has gone, and its generation has ended")
    serve.shutdown()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        print("curl -N 'http://127.0.0.1:8000?prompt=The+value'")
        serve.run(app, blocking=True)
    else:
        main()
