"""For tests of programs that use skate: the pytest plugin (fixtures ``skate_session``, ``skate_inline``).

The plugin is found by pytest when skate is installed; nothing here imports pytest or the runtime before
a test asks for a fixture. See docs/testing.md.
"""
