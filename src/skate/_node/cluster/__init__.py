"""The node's place in a cluster: its control store, and its membership."""
