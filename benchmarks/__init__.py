"""Benchmarks of skate beside Ray, `ProcessPoolExecutor` and a bare socket loop; run `python -m benchmarks`.

Who does what:

    __main__      command line; prints the table, `--markdown` and `--check`
    lines         the table of what is measured: unit, direction, group, targets
    runner        rounds and order of runs; collects samples; gives up on what hangs
    session       one fresh child process: starts it, reads its reports, kills its whole tree on a hang
    child         runs inside that process, under the interpreter of the measured system
    workloads/    what skate and Ray are asked to do; the same source for both
    baselines     what `ProcessPoolExecutor` and the bare socket loop are asked to do
    measure       how long to repeat and what to divide by what
    processes     which processes belong to a run, and their memory
    environments  the interpreters and the facts of the machine
    report        results to text, Markdown and verdicts
    chart         results to a picture (needs matplotlib)

`child`, `measure`, `processes`, `baselines` and `workloads` are imported under the interpreter of every
measured system, so they use the standard library alone (numpy inside the functions that measure arrays).
"""
