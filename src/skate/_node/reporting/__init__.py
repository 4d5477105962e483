"""The reports of a node: state, stacks, deadlocks, breakpoints."""
