"""Streaming aggregation: generators yield events, keyed actors add them up, nothing is held at once."""

import ray

SOURCES, EVENTS, SHARDS = 3, 400, 2


@ray.remote
def events(source):
    """Yield batches of (key, value), as a reader of a log would."""
    for start in range(0, EVENTS, 50):
        yield [(f"sensor-{(source * 7 + n * n) % 5}", n % 10) for n in range(start, start + 50)]


@ray.remote(num_cpus=0.1)
class Shard:
    def __init__(self):
        self.count, self.total = {}, {}

    def add(self, batch, mine):
        for key, value in batch:
            if int(key[-1]) % SHARDS == mine:
                self.count[key] = self.count.get(key, 0) + 1
                self.total[key] = self.total.get(key, 0) + value

    def result(self):
        return {key: (self.count[key], self.total[key]) for key in self.count}


ray.init(num_cpus=2, log_to_driver=False)
shards = [Shard.remote() for _ in range(SHARDS)]
streams = [events.remote(source) for source in range(SOURCES)]
batches = 0
while streams:
    ready, _ = ray.wait(streams, num_returns=1)
    for stream in ready:
        try:
            batch = next(stream)
        except StopIteration:
            streams.remove(stream)
            continue
        batches += 1
        for mine, shard in enumerate(shards):
            shard.add.remote(batch, mine)
found = {}
for part in ray.get([shard.result.remote() for shard in shards]):
    found.update(part)
print(batches, "batches")
for key in sorted(found):
    count, total = found[key]
    print(f"{key}: {count} events, mean {total / count:.3f}")
