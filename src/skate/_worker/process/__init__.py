"""The base of every part of a driver or worker: identity, lock, connections, signals, the main thread."""
