"""Two versions of a model: an A/B test, then updates while clients send requests. None of them fails.

The entrance divides clients by a hash of their name, so that each stays with its version.
"""

import collections
import http.client
import json
import sys
import threading
import zlib

from skate import serve


@serve.deployment(num_replicas=2)
class Model:
    def __init__(self, version: str, factor: float):
        self.version = version
        self.factor = factor

    def __call__(self, number: float) -> dict:
        return {"version": self.version, "result": self.factor * number}


@serve.deployment(num_replicas=2)
class Split:
    """The entrance: sends a part of the clients to the new version."""

    def __init__(self, old, new):
        self.old, self.new = old, new
        self.percent = 0

    def reconfigure(self, config):
        self.percent = config["percent"]

    async def __call__(self, request) -> dict:
        client = request.headers.get("x-client", "")
        chosen = self.new if zlib.crc32(client.encode()) % 100 < self.percent else self.old
        return await chosen.remote(float(request.query_params["n"]))


def app(percent: int):
    """The application with a part of its clients on version B."""
    old = Model.options(name="A").bind("A", 2.0)
    new = Model.options(name="B").bind("B", 2.1)
    return Split.options(user_config={"percent": percent}).bind(old, new)


class Clients:
    """Some clients, each with one connection, until the block ends."""

    def __init__(self, address, count):
        self.address = address
        #: Version, or "failed", to how many answers came from it.
        self.answers = collections.Counter()
        #: Answers to requests that began after the latest update.
        self.fresh = collections.Counter()
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=[f"client-{one}"]) for one in range(count)]

    def run(self, name):
        connection = http.client.HTTPConnection(self.address)
        while not self.ended.is_set():
            fresh = self.fresh
            try:
                connection.request("GET", "/?n=10", headers={"x-client": name})
                answer = connection.getresponse()
                body = answer.read()
                found = json.loads(body)["version"] if answer.status == 200 else "failed"
            except (OSError, http.client.HTTPException):
                connection.close()
                found = "failed"
            with self.lock:
                self.answers[found] += 1
                fresh[found] += 1
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def versions(self, count=200):
        """Return which versions answer so many requests that begin now."""
        self.fresh = collections.Counter()
        while self.fresh.total() < count:
            self.ended.wait(0.01)
        return " and ".join(sorted(self.fresh))


def main():
    serve.start(http_options={"port": 0})
    serve.run(app(0))
    (address,) = serve.status().proxies
    with Clients(address, 8) as clients:
        print("before:", clients.versions())
        for percent in (50, 100):
            # Another configuration restarts nothing.
            serve.run(app(percent))
            print(f"{percent} % of the clients on B:", clients.versions())
        # Another deployment under another name: the two models go when no entrance calls them any more.
        serve.run(Split.options(user_config={"percent": 0}).bind(Model.bind("C", 3.0), None))
        print("after:", clients.versions())
    print("requests that failed:", clients.answers["failed"])
    serve.shutdown()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        print("curl 'http://127.0.0.1:8000?n=10' -H 'x-client: ann'")
        serve.run(app(50), blocking=True)
    else:
        main()
