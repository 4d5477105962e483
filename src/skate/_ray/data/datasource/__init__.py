"""Adds the modules of ``ray.data.datasource``, whose names ``skate.data.datasource`` has."""
