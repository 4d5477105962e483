"""A parameter server: workers compute gradients of a linear model, an actor keeps the weights."""

import numpy as np
import ray

TRUTH = np.array([2.0, -3.0, 0.5, 1.0])


@ray.remote
class ParameterServer:
    def __init__(self, size, rate):
        self.weights = np.zeros(size)
        self.rate = rate

    def apply(self, *gradients):
        self.weights = self.weights - self.rate * np.mean(gradients, axis=0)
        return self.weights

    def get(self):
        return self.weights


@ray.remote
class Worker:
    def __init__(self, seed):
        random = np.random.default_rng(seed)
        self.x = random.normal(size=(500, len(TRUTH)))
        self.y = self.x @ TRUTH

    def gradient(self, weights):
        return 2 * self.x.T @ (self.x @ weights - self.y) / len(self.y)


ray.init(num_cpus=2, log_to_driver=False)
server = ParameterServer.options(num_cpus=0).remote(len(TRUTH), 0.1)
workers = [Worker.options(num_cpus=0.5).remote(seed) for seed in range(4)]
weights = server.get.remote()
for step in range(60):
    gradients = [worker.gradient.remote(weights) for worker in workers]
    weights = server.apply.remote(*gradients)
    if step % 20 == 19:
        error = np.abs(ray.get(weights) - TRUTH).max()
        print(f"after {step + 1} steps the largest error is {error:.4f}")
print("weights:", np.round(ray.get(weights), 3).tolist())
