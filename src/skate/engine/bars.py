"""The way of a progress bar's state from a worker of our runtime to its driver: a marked line of output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Begins a line with the state of a bar. No program prints it by chance.
MARK = "\x1fskate-bar "


def print_state(state: Mapping[str, Any]) -> None:
    """Print the state of a bar: the driver, which gets the output, draws the bar."""
    print(MARK + json.dumps(state), flush=True)
