"""The actors that run on a node: their leases and their workers."""
