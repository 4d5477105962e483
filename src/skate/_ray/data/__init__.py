"""Adds the modules of ``ray.data`` that ``skate.data`` has elsewhere."""
