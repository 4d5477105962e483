"""Adds the names of ``ray.experimental`` that ``skate.experimental`` lacks."""
