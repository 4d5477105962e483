"""``python -m demo_search``."""

from __future__ import annotations

from demo.entry import start

if __name__ == "__main__":
    start("demo_search")
