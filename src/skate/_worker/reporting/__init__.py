"""Reports of a process about itself: state, waits, metrics, structured logs."""
