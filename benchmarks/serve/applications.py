"""What skate and Ray deploy. `serve` is `skate.serve` or `ray.serve`: the same source for both.

The classes are made in functions so that they travel by value, and replicas import nothing of this checkout.
"""

from __future__ import annotations

import asyncio
from typing import Any

CHUNKS = 100
CHUNK = "0123456789abcdef"
BATCH = 16
WINDOW_S = 0.01
SECONDS = {"batch_fast": 0.01, "batch_slow": 0.1}
"""How long a batch takes."""
SLOTS = 5
SLOT_S = 0.005
WIDE = 200
"""Requests at a time where their number shall not be the limit."""
NO_CPU = {"num_cpus": 0}
"""So that replicas do not wait for free CPUs in the books of the session."""


def echo(serve: Any, replicas: int = 1, version: int = 0, **options: Any) -> Any:
    """Answer JSON with the same JSON; `version` makes one that must replace another."""

    class Echo:
        def __init__(self, version: int) -> None:
            self.version = version

        async def __call__(self, request: Any) -> Any:
            return await request.json()

    options = {"max_ongoing_requests": WIDE, **options}
    kind = serve.deployment(num_replicas=replicas, ray_actor_options=NO_CPU, **options)(Echo)
    return kind.bind(version)


def echo_default(serve: Any) -> Any:
    """The same with as many requests at a time as a deployment has without options."""
    return echo(serve, max_ongoing_requests=SLOTS)


def chunks(serve: Any) -> Any:
    """Stream an answer of many small parts."""
    parts, part = CHUNKS, CHUNK

    class Chunks:
        async def __call__(self, request: Any) -> Any:
            from starlette.responses import StreamingResponse

            async def body() -> Any:
                for _ in range(parts):
                    yield part

            return StreamingResponse(body())

    return serve.deployment(max_ongoing_requests=WIDE, ray_actor_options=NO_CPU)(Chunks).bind()


def slots(serve: Any) -> Any:
    """Wait a little, with few slots."""
    seconds = SLOT_S

    class Slow:
        async def __call__(self, request: Any) -> Any:
            await asyncio.sleep(seconds)
            return {"waited": seconds}

    return serve.deployment(max_ongoing_requests=SLOTS, ray_actor_options=NO_CPU)(Slow).bind()


def calls(serve: Any) -> Any:
    """What handles call."""

    class Called:
        async def __call__(self, value: Any) -> Any:
            return value

        async def items(self, count: int) -> Any:
            for number in range(count):
                yield number

    kind = serve.deployment(name="Called", max_ongoing_requests=WIDE, ray_actor_options=NO_CPU)(Called)
    return kind.bind()


def hop(serve: Any) -> Any:
    """Answer with what another deployment returns."""

    class Ingress:
        def __init__(self, downstream: Any) -> None:
            self.downstream = downstream

        async def __call__(self, request: Any) -> Any:
            return await self.downstream.remote(await request.json())

    kind = serve.deployment(max_ongoing_requests=WIDE, ray_actor_options=NO_CPU)(Ingress)
    return kind.bind(calls(serve))


def _batch(serve: Any, seconds: float) -> Any:
    class Batched:
        @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WINDOW_S)  # type: ignore[untyped-decorator]
        async def predict(self, items: list[Any]) -> list[Any]:
            await asyncio.sleep(seconds)
            return items

        async def __call__(self, request: Any) -> Any:
            return await self.predict(await request.json())

    return serve.deployment(max_ongoing_requests=WIDE, ray_actor_options=NO_CPU)(Batched).bind()


def batch_fast(serve: Any) -> Any:
    """A model that takes 10 ms for up to 16 items."""
    return _batch(serve, SECONDS["batch_fast"])


def batch_slow(serve: Any) -> Any:
    """A model that takes 100 ms for up to 16 items."""
    return _batch(serve, SECONDS["batch_slow"])


APPLICATIONS = {
    "echo": echo,
    "echo_default": echo_default,
    "chunks": chunks,
    "slots": slots,
    "calls": calls,
    "hop": hop,
    "batch_fast": batch_fast,
    "batch_slow": batch_slow,
}
BY_HANDLE = ("calls",)
"""They answer no HTTP."""
