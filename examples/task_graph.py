"""A graph of tasks: each begins when what it needs is there, and only what failed is missing.

Run it: ``python examples/task_graph.py``
"""

from __future__ import annotations

import skate


@skate.remote
def load(name: str) -> list[int]:
    if name == "broken":
        raise FileNotFoundError(f"there is no {name}")
    return [len(name) * i for i in range(5)]


@skate.remote(num_returns=2)
def split(numbers: list[int]) -> tuple[list[int], list[int]]:
    return [n for n in numbers if n % 2], [n for n in numbers if not n % 2]


@skate.remote
def total(*parts: list[int]) -> int:
    return sum(sum(part) for part in parts)


def main() -> None:
    skate.init()
    #   load ──> split ──odd───┐
    #                  └─even──┴──> total     once for each name
    totals = {}
    for name in ("one", "three", "broken", "seven"):
        odd, even = split.remote(load.remote(name))
        totals[name] = total.remote(odd, even)
    results: dict[str, int | str] = {}
    for name, ref in totals.items():
        try:
            results[name] = skate.get(ref)
        except FileNotFoundError as error:
            # The error of the load, with its own type, though two tasks lie between.
            results[name] = type(error.cause).__name__  # type: ignore[attr-defined]
    print(results)
    assert results == {"one": 30, "three": 50, "broken": "FileNotFoundError", "seven": 50}
    skate.shutdown()


if __name__ == "__main__":
    main()
