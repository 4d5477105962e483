"""The node daemon: worker pool, leases, object store, logs."""
