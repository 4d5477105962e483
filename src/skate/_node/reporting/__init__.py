"""What a node reports: state, stacks, deadlocks, breakpoints."""
