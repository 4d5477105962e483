"""Kernels: what exchanges and aggregates do to whole columns, on pyarrow alone.

``hashing`` gives rows a hash that is the same in every process and version, ``sorting`` an order,
``grouping`` the number of their group, ``joining`` their partners; ``arrays`` holds what all of them
need, ``near`` finds texts and pictures that almost equal each other. ``base`` names the kernels that a
faster library may replace.
"""
