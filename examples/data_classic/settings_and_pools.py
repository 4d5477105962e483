"""Settings, pools of workers, and what data sets print."""

import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources, TaskPoolStrategy

ray.init(num_cpus=2, log_to_driver=False)
context = DataContext.get_current()
context.enable_progress_bars = False
context.execution_options.preserve_order = True
context.execution_options.verbose_progress = False
context.execution_options.resource_limits = ExecutionResources(cpu=2)
context.target_max_block_size = 64 << 20


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, batch):
        return {"id": batch["id"] * self.factor}


print(ray.data.range(4))
ds = ray.data.range(8, override_num_blocks=4).map(lambda row: {"id": row["id"] + 1})
print(ds)
print(ds.schema())
pool = ds.map_batches(Scale, fn_constructor_args=[10], compute=ActorPoolStrategy(size=1), batch_size=2)
print([row["id"] for row in pool.take_all()])
tasks = ds.map_batches(lambda batch: {"id": batch["id"] - 1}, compute=TaskPoolStrategy(size=1), num_cpus=1)
print([row["id"] for row in tasks.take_all()])
kept = tasks.materialize()
print(kept.num_blocks(), kept.count(), kept.size_bytes())
print(kept)
print("named in the stats:", "Map(<lambda>)" in kept.stats())
print(ray.data.range(6).repartition(3).materialize().num_blocks())
kept.show(2)
