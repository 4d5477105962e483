"""Names of what serve runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeploymentId:
    """Names a deployment in all applications."""

    name: str
    app_name: str = "default"

    def __str__(self) -> str:
        return f"Deployment(name={self.name!r}, app={self.app_name!r})"
