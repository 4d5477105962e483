"""Operators: the work of tasks on blocks.

::

    functions, calls        users' functions and classes, and ways to call them: plain, async, in a child
    isolation               processes for the calls of a task whose process has ended before
    own_process, writing    calls of exchanges in such a process; what gives rows to a sink, here or there
    map_operators           map, flat_map, filter and map_batches
    column_operators        selections, computed columns, conditions, samples
    row_pipeline            operators as one callable, for rows that come one by one
    dead_letters            rows that failed: what becomes of them, how many are too many
    exchanges               sort, group, join, shuffle, zip, repartition, duplicates
"""
