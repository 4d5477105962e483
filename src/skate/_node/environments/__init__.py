"""Runtime environments: which are prepared, and how."""
