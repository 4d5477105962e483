"""Numbers the ways in which the bytes of a value are read; messages carry them, the serialiser chooses
them."""

from __future__ import annotations

#: In this order: ``None`` (no bytes); a pickle; a pickle with separate buffers (see _serialize.values); the
#: same in shared memory (the bytes give its size); a pickled exception that stands for the value. In replies
#: only: an exception after which the call may be run again; a call that could not begin because an argument
#: is not in the store (the bytes give its id and location).
NONE, PICKLE, BUFFERS, SHARED, ERROR, RETRIABLE, LOST = range(7)
