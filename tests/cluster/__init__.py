"""Tests on real processes and real kills; the only place that may wait on a clock."""
