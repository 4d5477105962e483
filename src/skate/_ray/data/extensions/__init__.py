"""Adds the modules of ``ray.data.extensions``, whose names ``skate.data.extensions`` has."""
