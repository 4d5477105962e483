"""Starts the roles as processes; names them as strings, imports none."""
