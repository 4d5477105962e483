"""Programs written for Ray."""
