"""Which application a path belongs to. Decisions only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from skate.serve._messages import Route

#: The longest request line that is looked at before a connection is passed on (bytes).
_LONGEST_LINE = 65536


class RouteTable:
    """Applications by the longest prefix of a path.

    Args:
        routes: in any order.
    """

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.routes = sorted(routes, key=lambda one: len(one.prefix), reverse=True)
        #: The only application, if all paths are its.
        self.only = self.routes[0] if len(self.routes) == 1 and self.routes[0].prefix == "/" else None

    def match(self, path: str) -> Route | None:
        """Return the route of a path, or None.

        Example:
            >>> table.match("/api/users").prefix
            '/api'
        """
        if self.only is not None:
            return self.only
        for one in self.routes:
            prefix = one.prefix
            if prefix == "/" or path == prefix or (path.startswith(prefix) and path[len(prefix)] == "/"):
                return one
        return None


def path_of(data: bytes) -> str | None:
    """Return the path in the first line of a request; None if the line is not complete or not one.

    Args:
        data: the first bytes of the request.

    Example:
        >>> path_of(b"GET /a/b?c=1 HTTP/1.1\\r\\n")
        '/a/b'
    """
    end = data.find(b"\n", 0, _LONGEST_LINE)
    if end < 0:
        return None
    parts = data[:end].split(b" ")
    if len(parts) != 3:
        return None
    path = parts[1].partition(b"?")[0].partition(b"#")[0]
    if path.startswith((b"http://", b"https://")):  # as proxies send it
        path = b"/" + path.split(b"/", 3)[3] if path.count(b"/") > 2 else b"/"
    text = path.decode("latin-1")
    if "%" in text:
        from urllib.parse import unquote

        text = unquote(text)
    return text


def check_prefix(prefix: object) -> None:
    """Raise unless it can be an application's prefix, or is None.

    Raises:
        ValueError: it does not begin with a slash, or ends with one, or has what a pattern has.
        TypeError: it is no string.
    """
    if prefix is None:
        return
    if not isinstance(prefix, str):
        raise TypeError(f"route_prefix takes a string or None, got {prefix!r}")
    if not prefix.startswith("/"):
        raise ValueError(f"Invalid route_prefix {prefix!r}, must start with a forward slash ('/').")
    if prefix != "/" and prefix.endswith("/"):
        raise ValueError(f"Invalid route_prefix {prefix!r}, may not end with a trailing '/'.")
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"Invalid route_prefix {prefix!r}, may not contain wildcards.")
    if prefix == "/-" or prefix.startswith("/-/"):
        raise ValueError(f"Invalid route_prefix {prefix!r}: paths below /-/ are serve's own.")
