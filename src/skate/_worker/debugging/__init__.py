"""Breakpoints of tasks and actors, and the debugger that answers there."""
