"""``python -m demo_search``."""

from __future__ import annotations

import sys


def _start() -> int:
    try:
        from demo_search.cli import main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("demo"):
            raise
        print(f"error: it needs the package {error.name}: pip install -e '.[demo-search]'", file=sys.stderr)
        return 2
    return main()


if __name__ == "__main__":
    try:
        sys.exit(_start())
    except KeyboardInterrupt:  # while the imports were still going on
        sys.exit(130)
