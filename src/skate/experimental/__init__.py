"""What may still change. Modules here are imported by name."""
