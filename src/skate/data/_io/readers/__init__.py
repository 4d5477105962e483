"""Readers: one format a module, each a datasource with the options of ``skate.data.read_<format>``."""
