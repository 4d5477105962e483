"""Batch inference: a class loads a model once in each replica; predictions go to Parquet files."""

import tempfile

import numpy as np
import ray


class Predictor:
    def __init__(self, seed, hidden=32):
        random = np.random.default_rng(seed)
        self.first = random.normal(size=(8, hidden))
        self.second = random.normal(size=(hidden, 3))

    def __call__(self, batch):
        scores = np.maximum(batch["features"] @ self.first, 0) @ self.second
        batch["label"] = scores.argmax(axis=1)
        del batch["features"]
        return batch


def features(batch):
    ids = batch["id"].astype(float)
    batch["features"] = np.stack([np.sin(ids * (n + 1)) for n in range(8)], axis=1)
    return batch


ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
ds = (
    ray.data.range(2_000)
    .map_batches(features, batch_size=256)
    .map_batches(
        Predictor,
        fn_constructor_args=[7],
        fn_constructor_kwargs={"hidden": 16},
        batch_size=100,
        concurrency=1,
    )
)
with tempfile.TemporaryDirectory() as folder:
    ds.write_parquet(folder)
    back = ray.data.read_parquet(folder)
    print("columns:", back.columns())
    print("rows:", back.count())
    labels = np.concatenate([batch["label"] for batch in back.iter_batches(batch_size=500)])
    print("rows of each label:", np.bincount(labels, minlength=3).tolist())
