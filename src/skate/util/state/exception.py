"""Defines the exceptions of the state API."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from skate._base.errors import RaySystemError

F = TypeVar("F", bound=Callable[..., Any])


class RayStateApiException(Exception):
    """The state cannot be read: there is no session, or an argument is wrong."""


class DataSourceUnavailable(RayStateApiException):
    """A part of the session does not answer."""


class ServerUnavailable(RayStateApiException):
    """The session does not answer."""


def translated(function: F) -> F:
    """Replace the exceptions of lower layers by those of this API."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ConnectionError as error:
            raise ServerUnavailable(str(error)) from None
        except RaySystemError as error:
            raise DataSourceUnavailable(str(error)) from None
        except ValueError as error:
            raise RayStateApiException(str(error)) from None

    return call  # type: ignore[return-value]
