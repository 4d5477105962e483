"""Memory of the node's processes: measured, and who ends when it runs short."""
