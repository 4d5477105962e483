"""Breakpoints of tasks and actors, and the debugger that runs there."""
