"""Parts of a task: ranges of rows, operators, and the interface of exchanges.

::

    slices        a block and its facts, as the driver knows it; ranges of rows of one
    operators     the interface of what a task does to blocks, and what it may know
    exchange      the interface of operations that need rows of several tasks together
"""
