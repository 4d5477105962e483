"""A dataflow."""


def spend() -> list:
    return [10, 10, 20, 40]


def mean(spend: list) -> float:
    return sum(spend) / len(spend)


def above(spend: list, mean: float) -> int:
    return sum(one > mean for one in spend)
