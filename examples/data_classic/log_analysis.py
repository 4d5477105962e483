"""Logs as JSON lines: expressions pick and make columns, the worst requests come first."""

import json
import tempfile
from pathlib import Path

import ray
from ray.data.expressions import col, lit

ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
with tempfile.TemporaryDirectory() as folder:
    for server in range(3):
        lines = [
            json.dumps({
                "page": ["/", "/search", "/cart", "/api/items"][n % 4],
                "status": 500 if n % 11 == 0 else 404 if n % 13 == 0 else 200,
                "ms": (n * 37 + server * 11) % 400 + n / 8,
                "user": {"id": n % 5},
            })
            for n in range(50)
        ]  # fmt: skip
        Path(folder, f"server-{server}.json").write_text("\n".join(lines))

    requests = ray.data.read_json(folder, include_paths=True)
    print("columns:", sorted(requests.columns()))
    slow = (
        requests.filter(expr=(col("status") == 200) & (col("ms") > 300))
        .with_column("seconds", col("ms") * 0.001)
        .with_column("site", lit("shop"))
        .rename_columns({"seconds": "s"})
        .select_columns(["s", "user", "site"])
    )
    print("slow:", slow.count())
    found = sorted(
        ((round(row["s"], 4), row["user"]["id"], row["site"]) for row in slow.take_all()), reverse=True
    )
    print("slowest:", found[:3])
    print("failed:", requests.filter(lambda row: row["status"] >= 500).count())
    print("statuses:", sorted(requests.unique("status")))
