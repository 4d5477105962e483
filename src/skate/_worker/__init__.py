"""The runtime inside every driver and worker process."""
