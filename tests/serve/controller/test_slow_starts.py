"""What the log says of replicas that do not start."""

from __future__ import annotations

import logging

import pytest

from skate.serve._controller.replicas import report_slow_start
from skate.serve._targets import DeploymentId


def test_a_replica_that_does_not_start_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "skate.serve"):
        report_slow_start("Model-1x1", DeploymentId("Model", "shop"))
    assert "replica Model-1x1 of Model (application shop) has not started after 30 s" in caplog.text
