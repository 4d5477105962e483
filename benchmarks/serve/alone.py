"""The shortest program that serves: `python -m benchmarks.serve.alone --module skate --port 8000`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys


def main() -> None:
    """Run the echo until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve = importlib.import_module(f"{options.module}.serve")
    from benchmarks.serve.applications import echo

    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    serve.run(echo(serve))
    signal.pause()


if __name__ == "__main__":
    main()
