"""The node's object store as a service: allocation, pins, spilling."""
