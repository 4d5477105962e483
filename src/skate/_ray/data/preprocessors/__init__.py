"""Adds the modules of ``ray.data.preprocessors``, whose names ``skate.data.preprocessors`` has."""
