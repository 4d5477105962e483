"""Unit tests: decision modules, codecs, the reactor. They mirror ``src/skate``; nothing here sleeps."""
