"""Monte Carlo: estimate pi by throwing darts in parallel, while an actor counts the progress."""

import random

import ray


@ray.remote
class Progress:
    def __init__(self, total):
        self.total = total
        self.done = 0

    def add(self, count):
        self.done += count

    def share(self):
        return self.done / self.total


@ray.remote
def throw(seed, count, progress):
    dice = random.Random(seed)
    inside = 0
    for _ in range(count):
        x, y = dice.random(), dice.random()
        inside += x * x + y * y <= 1
    ray.get(progress.add.remote(count))
    return inside


ray.init(num_cpus=2, log_to_driver=False)
TASKS, EACH = 8, 50_000
progress = Progress.options(num_cpus=0).remote(TASKS * EACH)
inside = ray.get([throw.remote(seed, EACH, progress) for seed in range(TASKS)])
print(f"progress: {ray.get(progress.share.remote()):.0%}")
print(f"pi is about {4 * sum(inside) / (TASKS * EACH):.4f}")
