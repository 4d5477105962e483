"""Decides where tasks and actors may run, for all roles."""
