"""A tree of tasks: sum many numbers pairwise, none of them ever at the driver."""

import numpy as np
import ray


@ray.remote
def make(index):
    return np.full(100_000, index)


@ray.remote
def add(left, right):
    return left + right


ray.init(num_cpus=2, log_to_driver=False)
level = [make.remote(index) for index in range(64)]
depth = 0
while len(level) > 1:
    level = [add.remote(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    depth += 1
total = ray.get(level[0])
equal = bool((total == total[0]).all())
print(f"{depth} levels; each of {len(total)} sums is {int(total[0])}; all equal: {equal}")
