"""Blocks: Arrow tables, and everything that is done to one of them without knowing where it lives.

::

    tables         the only place that concatenates, slices and measures blocks
    rows           rows (dicts) to blocks and back
    batches        batches (numpy, pandas, pyarrow) to blocks and back
    tensors        columns of arrays
    sources        which rows of a block came from which file
    builder        cuts rows and tables into blocks of a size
    schemas        the one schema of blocks that were made apart
    objects        columns of values that Arrow has no type for
    kernels        sort, partition, group, join: one block or a few in, one out
"""

from skate.data._block import pandas_later

pandas_later.postpone()
