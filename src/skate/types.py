"""Names for annotations."""

from skate.engine.refs import ObjectRef

__all__ = ["ObjectRef"]
