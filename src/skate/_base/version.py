"""Which version of skate this is."""

VERSION = "0.1.0"
