"""Tasks: functions that run in other processes, as many at once as there are CPUs.

Run it: ``python examples/hello_tasks.py``
"""

from __future__ import annotations

import skate


@skate.remote
def greet(name: str) -> str:
    return f"Hello, {name}!"


@skate.remote
def join(*lines: str) -> str:
    return "\n".join(lines)


def main() -> None:
    skate.init()
    # .remote() returns at once with a ref, a name for the value to come.
    greetings = [greet.remote(name) for name in ("tasks", "actors", "objects")]
    # Refs are arguments like any others: join begins when all greetings are there.
    letter = skate.get(join.remote(*greetings))
    print(letter)
    assert letter == "Hello, tasks!\nHello, actors!\nHello, objects!"
    skate.shutdown()


if __name__ == "__main__":
    main()
