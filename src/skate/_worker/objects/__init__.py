"""The objects of a process: references, values, shared memory."""
