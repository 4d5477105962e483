"""Where tasks and actors may run: decisions only, shared by all roles."""
