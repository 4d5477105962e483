"""Clients that send pictures of words until they are stopped, and note what came of each."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class Outcome:
    """A request that has ended."""

    #: The phase in which it began.
    phase: str
    seconds: float
    #: Why it failed; "": it did not.
    failure: str
    #: Whether the answer has the word of the picture.
    is_right: bool


class Clients:
    """Some clients, each with one connection and one request under way. A context manager.

    Args:
        address: of the service, such as "127.0.0.1:8000".
        count: how many.
        pictures: words, and pictures of them.
    """

    def __init__(self, address: str, count: int, pictures: Sequence[tuple[str, bytes]]) -> None:
        self._address = address
        self._pictures = pictures
        #: Requests that begin now belong to this phase.
        self.phase = ""
        self.outcomes: list[Outcome] = []
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=[number], name=f"client-{number}")
            for number in range(count)
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        first = number * len(self._pictures) // len(self._threads)
        for word, picture in itertools.islice(itertools.cycle(self._pictures), first, None):
            if self._stopped.is_set():
                break
            phase, began = self.phase, time.perf_counter()
            failure, text = "", ""
            try:
                connection.request("POST", "/", picture)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    text = " ".join(line["text"] for line in json.loads(body)["lines"])
                else:
                    failure = f"status {answer.status}: {body[:200].decode(errors='replace')}"
            except (OSError, http.client.HTTPException) as error:
                failure = repr(error)
                connection.close()
            seconds = time.perf_counter() - began
            # Appending to a list needs no lock.
            self.outcomes.append(Outcome(phase, seconds, failure, word.lower() in text.lower()))
        connection.close()
