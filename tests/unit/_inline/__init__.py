"""Tests of the in-process mode's decisions."""
