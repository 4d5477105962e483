"""The caller's side of a call: submission, leases, actors' queues, results, recovery, cancellation."""
