"""Benchmarks of `skate.serve` beside uvicorn, Ray Serve, LitServe, BentoML. Run `python -m benchmarks.serve`.

Who does what:

    __main__      command line; prints the tables, `--markdown`, `--readme`, `--list`
    systems       the systems: titles, interpreters, packages
    lines         the table of what is measured, and the bars and goals
    applications  what skate and Ray deploy: the same source for both
    plain         the same over uvicorn and Starlette, batches written by hand
    lit, bento    the same for LitServe and BentoML
    servers       how each system is started, asked for an application, and stopped
    generator     the load generator: closed or open loop, in a process of its own
    load          runs `wrk` or the generator, and reads what it found
    meter         CPU time and memory of the server processes alone
    child         measures one session of lines for one system, in a process of its own
    runner        rounds, and which system runs when
    report        results to text, to the page of documentation and to the README's table
    chart         latencies to a picture (needs matplotlib)

`benchmarks.session`, `runner`, `processes` and `environments` do here what they do for the core's benchmarks.
All but `plain`, `lit`, `bento` and `chart` use the standard library alone, as peers' interpreters run them.
"""
