"""``python -m demo_serve``."""

from __future__ import annotations

from demo.entry import start

if __name__ == "__main__":
    start("demo_serve")
