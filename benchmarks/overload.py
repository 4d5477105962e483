"""Goodput of serve under an open loop of requests with deadlines: ``python -m benchmarks.overload``.

Prints, for some multiples of the capacity, the share of the capacity that was answered in time. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections import Counter

from skate import serve
from skate.serve._instance import http_address

#: Of the deployment: slots, and seconds that a request takes.
SLOTS, SERVICE_S = 4, 0.05
#: Of the requests (seconds), and how long they come (seconds).
DEADLINE_S, DURATION_S = 0.2, 5.0


@serve.deployment(max_ongoing_requests=SLOTS)
class Sleeps:
    """Takes a slot for a while, and no CPU."""

    async def __call__(self, request: object) -> str:
        await asyncio.sleep(SERVICE_S)
        return "done"


async def status_of(host: str, port: int) -> int:
    """Send one request, and return its status."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-timeout-seconds: %g\r\n\r\n"
        writer.write(head % DEADLINE_S)
        return int((await reader.read()).split(b" ", 2)[1])
    finally:
        writer.close()


async def statuses_at(rate: float, host: str, port: int) -> Counter[int]:
    """Send requests at a rate, whatever becomes of them; return how many had which status."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    tasks = []
    for number in range(round(rate * DURATION_S)):
        await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
        tasks.append(asyncio.ensure_future(status_of(host, port)))
    return Counter(await asyncio.gather(*tasks))


def main() -> None:
    """Run it, and print a line for each rate."""
    serve.start(http_options={"port": 0})
    serve.run(Sleeps.bind())
    address = urllib.parse.urlsplit(http_address() or "")
    capacity = SLOTS / SERVICE_S
    for factor in (0.5, 1.0, 2.0, 3.0, 5.0):
        found = asyncio.run(statuses_at(factor * capacity, address.hostname or "", address.port or 0))
        goodput = found[200] / DURATION_S / min(1.0, factor) / capacity
        print(f"{factor:g} x capacity: goodput {goodput:4.0%}, statuses {dict(sorted(found.items()))}")
    serve.shutdown()


if __name__ == "__main__":
    main()
