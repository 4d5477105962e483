"""Execution: stages run over blocks, in the caller's process or on skate.

::

    slices        a block and its facts, as the driver knows it; ranges of rows of one
    operators     what a task does to blocks, as the planner composes it
    work          the worker's side: read, apply operators, cut, report
    scheduler     decides what runs next: events in, commands out; no I/O, no clock
    port          the calls by which an execution meets the world; local_port, skate_port
    execution     drives a scheduler and a port for a consumer
"""
