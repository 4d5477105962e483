"""The same answers from BentoML: `bentoml serve benchmarks.serve.bento:Echo --port 8000`.

Its endpoints take named parameters, so the answer is that of the parameters of the benchmark's body.
"""

from __future__ import annotations

import asyncio
from typing import Any

import bentoml

from benchmarks.serve.applications import BATCH, SECONDS


@bentoml.service(workers=1, traffic={"timeout": 60})
class Echo:
    @bentoml.api(route="/")
    async def echo(self, id: int, text: str, values: list[int]) -> dict[str, Any]:
        return {"id": id, "text": text, "values": values}


@bentoml.service(workers=1, traffic={"timeout": 60})
class BatchFast:
    @bentoml.api(route="/", batchable=True, max_batch_size=BATCH, max_latency_ms=10_000)
    async def predict(self, values: list[int]) -> list[int]:
        await asyncio.sleep(SECONDS["batch_fast"])
        return values
