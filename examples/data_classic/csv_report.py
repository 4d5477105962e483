"""A report of sales from CSV files: cleaned as data frames, filtered, summed by region, sorted."""

import tempfile
from pathlib import Path

import ray
from ray.data.aggregate import Count, Max, Mean, Sum


def clean(df):
    df = df.dropna(subset=["price"])
    df["region"] = df["region"].str.strip().str.title()
    df["total"] = df["price"] * df["amount"]
    return df


ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
with tempfile.TemporaryDirectory() as folder:
    for month in range(1, 4):
        lines = ["region,price,amount"]
        for n in range(60):
            region = [" north", "SOUTH ", "east", "West"][n * month % 4]
            price = "" if n % 20 == 19 else f"{n % 7 + month}.5"
            lines.append(f"{region},{price},{n % 5}")
        Path(folder, f"month-{month}.csv").write_text("\n".join(lines))

    sales = (
        ray.data.read_csv(folder).map_batches(clean, batch_format="pandas").filter(lambda row: row["amount"])
    )
    print("sales:", sales.count())
    report = sales.groupby("region").aggregate(
        Count(), Sum("total"), Mean("price", alias_name="mean price"), Max("amount")
    )
    for row in sorted(report.take_all(), key=lambda row: row["region"]):
        print(
            row["region"], row["count()"], row["sum(total)"], round(row["mean price"], 3), row["max(amount)"]
        )
    best = sales.sort("total", descending=True).take(3)
    print("best:", [row["total"] for row in best])
    print("all in all:", sales.sum("total"))
