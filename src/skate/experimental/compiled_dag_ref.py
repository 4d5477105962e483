"""What an execution of a compiled graph returns, by the names that users import them by."""

from skate.dag._results import CompiledDAGFuture, CompiledDAGRef

__all__ = ["CompiledDAGFuture", "CompiledDAGRef"]
