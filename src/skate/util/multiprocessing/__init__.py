"""``multiprocessing.Pool`` on actors: change the import, keep the program.

::

    from skate.util.multiprocessing import Pool

    with Pool() as pool:
        print(pool.map(square, range(100_000)))
"""

from multiprocessing import JoinableQueue, TimeoutError

from skate.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
