"""Errors: what a program can catch, and the mistakes that are found at once."""

import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayTaskError

ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False


def parse(row):
    if row["id"] == 13:
        raise ValueError("unlucky number")
    return {"value": row["id"] / 2}


try:
    ray.data.range(20).map(parse).materialize()
except RayTaskError as error:
    print("failed:", "unlucky number" in str(error))

ray.data.DataContext.get_current().max_errored_blocks = -1
kept = ray.data.range(20, override_num_blocks=20).map(parse).materialize()
print("kept with max_errored_blocks:", kept.count())
ray.data.DataContext.get_current().max_errored_blocks = 0


def attempt(title, call):
    try:
        call()
    except Exception as error:
        print(f"{title}: {type(error).__name__}")
    else:
        print(f"{title}: no error")


ds = ray.data.range(5)
attempt("a batch size of 0", lambda: ds.map_batches(parse, batch_size=0))
attempt("an unknown batch format", lambda: ds.map_batches(parse, batch_format="polars"))
attempt("constructor arguments of a function", lambda: ds.map_batches(parse, fn_constructor_args=[1]))
attempt("a pool of contradictions", lambda: ActorPoolStrategy(size=1, min_size=2))
attempt("a missing file", lambda: ray.data.read_csv("/does/not/exist.csv"))
attempt("more rows than the limit", lambda: ds.take_all(limit=2))
attempt("a column twice", lambda: ds.select_columns(["id", "id"]))
attempt("dropping what is not there", lambda: ds.drop_columns(["nothing"]))
attempt("the length", lambda: len(ds))
attempt("a loop over the data set itself", lambda: iter(ds))
attempt("the first batch of nothing", lambda: ds.filter(lambda row: False).take_batch())
