"""A linear regression over epochs of shuffled batches, tested on rows that were split off."""

import numpy as np
import ray

ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False


def measure(row):
    x = np.array([np.sin(row["id"]), np.cos(row["id"] * 0.7), 1.0])
    return {"x": x, "y": float(x @ [2.0, -3.0, 0.5])}


ds = ray.data.range(600, override_num_blocks=4).map(measure).materialize()
train, test = ds.train_test_split(test_size=0.25, shuffle=True, seed=3)
print("rows:", train.count(), test.count())
print("type of x:", type(train.take(1)[0]["x"]).__name__, train.take(1)[0]["x"].shape)

weights = np.zeros(3)
for epoch in range(40):
    for batch in train.iter_batches(batch_size=50, local_shuffle_buffer_size=100, local_shuffle_seed=epoch):
        error = batch["x"] @ weights - batch["y"]
        weights -= 0.5 * batch["x"].T @ error / len(error)
print("weights:", np.round(weights, 2).tolist())

errors = test.map_batches(lambda batch: {"error": np.abs(batch["x"] @ weights - batch["y"])}, batch_size=64)
print("largest error below 0.01:", errors.max("error") < 0.01)
