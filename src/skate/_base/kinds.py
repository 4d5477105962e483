"""How the bytes of a value are to be read: said in messages, produced by the serialiser."""

from __future__ import annotations

#: ``None`` (no bytes); a pickle; a pickle with buffers apart (see _serialize.values); the same in
#: shared memory (the bytes give its size); a pickled exception that stands for the value; in replies:
#: one after which the call may be run again; a call that could not begin, because the argument whose
#: id and location the bytes give is not in the store.
NONE, PICKLE, BUFFERS, SHARED, ERROR, RETRIABLE, LOST = range(7)
