"""Tests of skate.util and skate.experimental, on real sessions."""
