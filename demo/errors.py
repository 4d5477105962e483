"""What the demo says when it cannot go on."""

from __future__ import annotations


class DemoError(Exception):
    """The user can put this right: its message is all they see, with exit code 2 and no traceback."""
