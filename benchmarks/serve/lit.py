"""The same answers from LitServe: `python -m benchmarks.serve.lit --app echo --port 8000`."""

from __future__ import annotations

import argparse
import time
from typing import Any

import litserve

from benchmarks.serve.applications import BATCH, SECONDS, WINDOW_S


class Echo(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """Nothing is loaded; a request is decoded as JSON by default."""

    def predict(self, item: Any) -> Any:
        return item

    def encode_response(self, output: Any) -> Any:
        return output


class Batched(Echo):
    """A model that takes so long for up to 16 items."""

    def __init__(self, seconds: float) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=WINDOW_S, api_path="/")
        self._seconds = seconds

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, item: Any) -> Any:
        time.sleep(self._seconds)
        return item

    def unbatch(self, output: Any) -> Any:
        return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", choices=["echo", *SECONDS], required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    api = Echo(api_path="/") if options.app == "echo" else Batched(SECONDS[options.app])
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=options.workers)
    server.run(host="127.0.0.1", port=options.port, num_api_servers=1, generate_client_file=False)


if __name__ == "__main__":
    main()
