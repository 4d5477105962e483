"""Batch prediction: actors load a model once; the data goes by reference, results come as they are ready."""

import numpy as np
import ray


@ray.remote
class Predictor:
    def __init__(self, weights):
        self.weights = weights  # shared memory: no copy for each actor

    def predict(self, batch):
        hidden = np.maximum(batch @ self.weights["in"], 0)
        return (hidden @ self.weights["out"]).argmax(axis=1)


ray.init(num_cpus=2, log_to_driver=False)
random = np.random.default_rng(7)
weights = ray.put({"in": random.normal(size=(64, 256)), "out": random.normal(size=(256, 10))})
predictors = [Predictor.remote(weights) for _ in range(2)]
batches = [random.normal(size=(2_000, 64)) for _ in range(12)]

waiting, counts = {}, np.zeros(10, dtype=int)
free = list(predictors)
for batch in batches:
    if not free:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        counts += np.bincount(ray.get(ready), minlength=10)
        free.append(waiting.pop(ready))
    actor = free.pop()
    waiting[actor.predict.remote(batch)] = actor
for result in ray.get(list(waiting)):
    counts += np.bincount(result, minlength=10)
print("rows of each class:", counts.tolist())
print("rows in all:", int(counts.sum()))
