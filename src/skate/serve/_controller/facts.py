"""The facts that replicas state of themselves, for those that choose among them. Decisions only: no I/O."""

from __future__ import annotations

from collections.abc import Collection

from skate.serve._messages import Facts, FactsTable
from skate.serve._targets import DeploymentId


class AllFacts:
    """The facts of all replicas.

    Args:
        replicas: those that live; others change it.
    """

    def __init__(self, replicas: Collection[str]) -> None:
        self._replicas = replicas
        self._facts: dict[DeploymentId, dict[str, Facts]] = {}

    def noted(self, name: DeploymentId, replica: str, facts: Facts) -> None:
        """A replica stated its facts. Those of replicas that have ended are forgotten."""
        self._facts.setdefault(name, {})[replica] = facts
        for known in list(self._facts):
            living = {one: said for one, said in self._facts[known].items() if one in self._replicas}
            if living:
                self._facts[known] = living
            else:
                del self._facts[known]

    def table(self, version: int, name: DeploymentId) -> FactsTable:
        """Return the table of a deployment's replicas."""
        return FactsTable(version, dict(self._facts.get(name, {})))
