"""Map-reduce: count the words of many texts, each reducer its own share of the words."""

import zlib
from collections import Counter

import ray

TEXTS = [
    f"the {animal} and the {other} went to sea in a beautiful pea green boat {animal}"
    for animal in ("owl", "pussycat", "skate", "ray", "turtle")
    for other in ("fox", "hen", "owl")
]
REDUCERS = 3


@ray.remote(num_returns=REDUCERS)
def count(texts):
    shares = [Counter() for _ in range(REDUCERS)]
    for text in texts:
        for word in text.split():
            shares[zlib.crc32(word.encode()) % REDUCERS][word] += 1
    return shares


@ray.remote
def merge(*shares):
    total = Counter()
    for share in shares:
        total += share
    return total


ray.init(num_cpus=2, log_to_driver=False)
mapped = [count.remote(TEXTS[start : start + 4]) for start in range(0, len(TEXTS), 4)]
reduced = [merge.remote(*[shares[index] for shares in mapped]) for index in range(REDUCERS)]
total = Counter()
for part in ray.get(reduced):
    total += part
for word, number in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:8]:
    print(f"{number:3} {word}")
print(len(total), "different words,", sum(total.values()), "in all")
