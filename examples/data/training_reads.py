"""Two workers read one data set while it is made: every row goes to one of them, in every epoch.

``equal=True`` gives both as many rows, as training in step needs it.
"""

import skate
import skate.data


@skate.remote
class Trainer:
    """Fits y = a * x by gradient descent, on its part of the rows."""

    def __init__(self, shard):
        self.shard = shard
        self.a = 0.0

    def train(self, epochs):
        rows = []
        for _ in range(epochs):
            seen = 0
            for batch in self.shard.iter_batches(batch_size=100):
                x, y = batch["x"], batch["y"]
                self.a += 0.5 * float(((y - self.a * x) * x).mean())
                seen += len(x)
            rows.append(seen)
        return rows, self.a


def example(row):
    x = row["id"] / 2_000
    return {"x": x, "y": 3 * x}


if __name__ == "__main__":
    skate.init(num_cpus=2)
    shards = skate.data.range(2_000).map(example).random_shuffle(seed=1).streaming_split(2, equal=True)
    trainers = [Trainer.remote(shard) for shard in shards]
    for number, (rows, a) in enumerate(skate.get([trainer.train.remote(epochs=3) for trainer in trainers])):
        print(f"worker {number}: rows of each epoch {rows}, a = {a:.1f}")
