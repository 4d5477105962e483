"""Tables from pandas and Arrow, joined, unions, zips, and a random sample."""

import pandas as pd
import pyarrow as pa
import ray

ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False

customers = ray.data.from_pandas(
    pd.DataFrame(
        {"id": [1, 2, 3, 4], "name": ["Ada", "Ben", "Cleo", None], "city": ["Rom", "Ulm", "Ulm", "Rom"]}
    )
)
orders = ray.data.from_arrow(pa.table({"customer": [1, 1, 3, 9], "price": [10.0, 5.0, 7.5, 1.0]}))

joined = orders.join(customers, join_type="left_outer", num_partitions=2, on=("customer",), right_on=("id",))
rows = sorted(joined.take_all(), key=lambda row: (row["customer"], row["price"]))
for row in rows:
    print(row["customer"], row["price"], row["name"], row["city"])

more = ray.data.from_items([{"customer": 2, "price": 2.5}])
everything = orders.union(more)
print("orders:", everything.count(), "in all:", everything.sum("price"))
numbered = ray.data.range(4).zip(customers.select_columns(["name"]))
print(sorted(row["id"] for row in numbered.take_all() if row["name"] is None))
print(orders.to_pandas().dtypes.astype(str).to_dict())
print("cities:", sorted(customers.unique("city")))
print("a sample:", 20 < ray.data.range(1000).random_sample(0.05, seed=1).count() < 90)
