"""Benchmarks of `skate.data` beside multiprocessing, Ray Data, Daft, DuckDB, Polars.

Run `python -m benchmarks.data`.

Who does what:

    __main__    command line; prints the table, `--list`, `--markdown`
    lines       the table of what is measured: unit, engines, targets
    inputs      downloads packages with pictures, documents, sounds, pages and models, once
    kernels     what a pipeline does to a row or a batch, as plain functions and classes
    pipelines   the steps of each pipeline, and the check of what an engine wrote
    engines/    how each engine is asked to run such steps
    options     what `skate.data` can do besides: order, dead letters, resuming
    overheads   what the engines cost where functions do nothing
    exchanges   sort, groupby, join and shuffle under a budget of memory
    runner      rounds, order of engines, comparison of their results
    child       measures one group for one engine, in a process of its own
    meter       CPU seconds and memory of a whole process tree
    report      results to text and to the page of documentation
    chart       results to a picture (needs matplotlib)

`benchmarks.session`, `runner`, `processes` and `environments` do here what they do for the core's benchmarks.
"""
