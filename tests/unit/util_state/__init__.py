"""Tests of ``skate.util.state`` and of metrics, without processes."""
