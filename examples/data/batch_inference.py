"""A model on a pool of two processes: each loads it once and is given batches of 256 rows.

The model is a linear classifier whose weights are drawn with a seed; put the loading of your own into
``__init__`` and its call into ``__call__``.
"""

import numpy as np

import skate.data

CLASSES = np.array(["cat", "dog", "fish"])


class Classifier:
    def __init__(self, seed):
        self.weights = np.random.default_rng(seed).normal(size=(8, len(CLASSES)))

    def __call__(self, batch):
        scores = np.exp(batch["features"] @ self.weights)
        scores /= scores.sum(axis=1, keepdims=True)
        return {
            "id": batch["id"],
            "label": CLASSES[scores.argmax(axis=1)],
            "probability": scores.max(axis=1),
        }


def features(batch):
    """Stands for decoding: eight numbers for each row."""
    return {**batch, "features": np.sin(batch["id"][:, None] * np.arange(1, 9))}


if __name__ == "__main__":
    labelled = (
        skate.data.range(10_000)
        .map_batches(features)
        .map_batches(
            Classifier,
            fn_constructor_args=[7],
            batch_size=256,
            compute=skate.data.ActorPoolStrategy(size=2),
        )
        .materialize()
    )
    print(labelled.count(), "rows")
    for row in labelled.groupby("label").count().sort("label").take_all():
        print(f"{row['label']:>5}: {row['count()']}")
    best = labelled.sort("probability", descending=True).take(1)[0]
    print(f"surest: row {best['id']} is a {best['label']} ({best['probability']:.4f})")
