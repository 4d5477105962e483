"""Kernels: what exchanges and aggregates do to whole columns, on pyarrow alone.

``hashing`` gives rows a hash that is the same in every process and version, ``sorting`` an order,
``grouping`` the number of their group, ``joining`` their partners; ``arrays`` holds what all of them need,
``near`` finds texts and pictures that almost equal each other.

A faster library would go behind ``sorting.sort_indices`` and ``joining.join_indices``: each takes key
columns alone and returns row numbers. Polars was measured there: 2.4 times faster on integer keys, 1.4 times
at joins, slower on text. It is not used: its import costs what it saves on two blocks of half a million rows,
and it would bring a pool of threads of its own into every worker.
"""
