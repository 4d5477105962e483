"""What every part of a driver or worker stands on: identity, lock, connections, signals, the main thread."""
