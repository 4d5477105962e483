"""Exports the results of executions of compiled graphs, under the names that users import."""

from skate.dag._results import CompiledDAGFuture, CompiledDAGRef

__all__ = ["CompiledDAGFuture", "CompiledDAGRef"]
