"""The control store: nodes, jobs, the actor directory."""
