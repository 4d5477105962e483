"""Hyperparameter search: many short trainings at once; bad ones are stopped by whoever watches."""

import numpy as np
import ray


@ray.remote
class Trial:
    """Gradient descent on a bowl, with momentum."""

    def __init__(self, rate, momentum):
        self.rate, self.momentum = rate, momentum
        self.at, self.speed = np.array([3.0, -2.0]), np.zeros(2)

    def train(self, steps):
        for _ in range(steps):
            gradient = self.at * np.array([1.0, 10.0])
            self.speed = self.momentum * self.speed - self.rate * gradient
            self.at = self.at + self.speed
        return float(np.minimum(np.square(self.at).sum(), 1e9))


ray.init(num_cpus=2, log_to_driver=False)
space = [(rate, momentum) for rate in (0.001, 0.01, 0.05, 0.15, 0.3) for momentum in (0.0, 0.5, 0.9)]
trials = {config: Trial.options(num_cpus=0.1).remote(*config) for config in space}
steps = 5
while len(trials) > 1:
    trained = ray.get([trial.train.remote(steps) for trial in trials.values()])
    losses = dict(zip(trials, trained, strict=True))
    ranked = sorted(losses, key=lambda config: (losses[config], config))
    keep = ranked[: max(1, len(ranked) // 2)]
    for config in ranked[len(keep) :]:
        ray.kill(trials.pop(config))
    print(f"{len(losses):2} trials, {steps} steps: best loss {losses[ranked[0]]:.6f}; {len(keep)} go on")
    steps *= 2
(rate, momentum) = next(iter(trials))
print(f"best: rate {rate}, momentum {momentum}")
