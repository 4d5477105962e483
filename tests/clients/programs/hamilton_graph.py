"""A dataflow whose nodes run as tasks of Ray, and parallel blocks on Ray's executor."""

import hamilton_blocks
import hamilton_spending
import ray
from hamilton import base, driver, telemetry
from hamilton.execution import executors
from hamilton.plugins import h_ray

telemetry.disable_telemetry()
ray.init(num_cpus=2)
adapter = h_ray.RayGraphAdapter(result_builder=base.DictResult())
found = driver.Driver({}, hamilton_spending, adapter=adapter).execute(["mean", "above"])
assert found == {"mean": 20.0, "above": 1}, found
ray.shutdown()

parallel = (
    driver.Builder()
    .with_modules(hamilton_blocks)
    .enable_dynamic_execution(allow_experimental_mode=True)
    .with_local_executor(executors.SynchronousLocalTaskExecutor())
    .with_remote_executor(h_ray.RayTaskExecutor(num_cpus=2))
    .build()
)
assert parallel.execute(["total"], inputs={"count": 10}) == {"total": 285}
print("passed")
