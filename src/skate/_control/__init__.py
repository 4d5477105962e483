"""Implements the control store: nodes, jobs, the actor directory."""
