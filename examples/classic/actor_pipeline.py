"""An asynchronous pipeline: async actors pass items on; each stage waits without blocking the others."""

import asyncio

import ray


@ray.remote
class Stage:
    def __init__(self, name, work, then=None):
        self.name = name
        self.work = work
        self.then = then
        self.together = self.most = 0

    async def take(self, item):
        self.together += 1
        self.most = max(self.most, self.together)
        await asyncio.sleep(0.001)
        self.together -= 1
        item = self.work(item)
        return await self.then.take.remote(item) if self.then is not None else item

    async def most_at_a_time(self):
        return self.most


ray.init(num_cpus=2, log_to_driver=False)
options = {"num_cpus": 0.1, "max_concurrency": 50}
last = Stage.options(**options).remote("format", lambda item: f"<{item}>")
middle = Stage.options(**options).remote("square", lambda item: item * item, last)
first = Stage.options(**options).remote("add", lambda item: item + 1, middle)
items = ray.get([first.take.remote(item) for item in range(100)])
print(items[:5], "...", items[-1])
for name, stage in (("add", first), ("square", middle), ("format", last)):
    together = ray.get(stage.most_at_a_time.remote())
    print(f"stage {name} worked on several items at a time: {together > 1}, never above 50: {together <= 50}")
