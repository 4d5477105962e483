"""What the state API raises."""

from __future__ import annotations


class RayStateApiException(Exception):
    """The state could not be told: no session, or an argument is wrong."""


class ServerUnavailable(RayStateApiException):
    """The session does not answer."""
