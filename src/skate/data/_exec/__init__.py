"""Execution: stages run over blocks, in the caller's process or on skate.

::

    stages        a plan as an execution runs it
    inbox         the input of a stage: slices in, bundles out
    scheduler     decides what runs next: events in, commands out; no I/O, no clock
    work          the worker's side: read, apply operators, cut, report
    port          the calls by which an execution meets the world; local_port, hybrid_port, skate_port
    statistics    counts what happens
    execution     drives a scheduler and a port for a consumer
"""
