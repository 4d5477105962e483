"""The pipelines and exchanges of the benchmarks of data on three nodes of Ray: the same rows as on this machine.

    python tests/compat/benchmarks_on_nodes.py [--only photos,exchange_sort] [--scale 0.02] [--cache DIR]

In a Python with ray and the libraries of the benchmarks. It downloads their inputs and models unless the cache has them.
Each runs by skate's own runtime and by skate on the cluster; what both wrote is compared by its checksum.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

from benchmarks.data import inputs, runner
from benchmarks.data.engines import ray_api
from benchmarks.data.lines import BY_NAME
from ray.cluster_utils import Cluster

NODES, CPUS = 3, 2
ENGINES = ("skate", "on_ray")
#: The five pipelines, and the exchanges whose output does not depend on chance.
DEFAULT = (
    "photos", "pdf", "pdf_static", "audio", "text",
    "exchange_sort", "exchange_few", "exchange_many", "exchange_join", "exchange_join_small",
)  # fmt: skip


def on_a_cluster() -> int:
    """Start the nodes, and compare in another process: the benchmarks end all that is below theirs."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(num_cpus=CPUS)
        cluster.wait_for_nodes()
        return subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--join", cluster.address], check=False
        ).returncode
    finally:
        cluster.shutdown()


def main() -> int:
    """Compare all of them; return 1 if any differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(DEFAULT), help="comma-separated")
    parser.add_argument("--scale", type=float, default=0.02, help="fraction of the full size")
    parser.add_argument("--cache", type=Path, default=inputs.default_cache())
    parser.add_argument(
        "--join", help="the address of a cluster that is there, instead of one of three nodes"
    )
    arguments = parser.parse_args()
    if arguments.join is None:
        return on_a_cluster()
    lines = tuple(BY_NAME[name] for name in arguments.only.split(","))
    cache = Path(runner.folder(arguments.cache))
    unpacked = inputs.unpacked_packages(cache) if runner.needs_inputs(lines) else cache
    models = inputs.models(cache) if runner.needs_models(lines) else cache
    os.environ[ray_api.ADDRESS] = arguments.join
    found = runner.run(
        runner.Plan(
            engines=ENGINES,
            lines=lines,
            rounds=1,
            scale=arguments.scale,
            workers=CPUS,
            timeout_s=600.0,
            python=sys.executable,
            cache=str(cache),
            unpacked=str(unpacked.resolve()),
            models=str(models),
        )
    )
    different = 0
    for line in lines:
        cells = {engine: cell for engine, cell in found["lines"][line.name].items() if engine in ENGINES}
        failures = [f"{engine}: {one}" for engine, cell in cells.items() for one in cell["failures"]]
        written = [cell["info"][0]["written"] for cell in cells.values() if cell["info"]]
        is_equal = len(written) == 2 and not failures
        different += not is_equal
        facts = f"{written[0]['rows']} rows, checksum {written[0]['checksum']:016x}" if written else ""
        print(
            f"{line.name}: {'equal' if is_equal else 'DIFFERENT'}; {facts} {'; '.join(failures)}", flush=True
        )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
