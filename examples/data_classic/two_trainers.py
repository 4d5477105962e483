"""Two trainers read a data set at the same time: each row once in an epoch, prepared while they train."""

import ray

ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False


@ray.remote(num_cpus=0)
class Trainer:
    def __init__(self, shard):
        self.shard = shard

    def train(self, epochs):
        seen = []
        for _ in range(epochs):
            total = rows = 0
            for batch in self.shard.iter_batches(batch_size=16):
                total += int(batch["double"].sum())
                rows += len(batch["double"])
            seen.append((rows, total))
        return seen


ds = ray.data.range(400, override_num_blocks=8).map_batches(lambda batch: {"double": batch["id"] * 2})
shards = ds.streaming_split(2, equal=True)
trainers = [Trainer.remote(shard) for shard in shards]
results = ray.get([trainer.train.remote(2) for trainer in trainers])
for epoch in range(2):
    print(
        f"epoch {epoch}: rows of each {[result[epoch][0] for result in results]},",
        f"sum of all {sum(result[epoch][1] for result in results)}",
    )
