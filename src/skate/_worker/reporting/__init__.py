"""What a process reports of itself: history, state, waits, metrics, structured logs."""
