"""How calls of one item become batches.

``queue.py`` decides which calls run together and when, with what ``windows.py`` has learned; ``calls.py``
holds their results, and ``streams.py`` the steps of loops that they join and leave.
"""
