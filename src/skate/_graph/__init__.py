"""Nodes of graphs of calls, which ``bind`` makes: see ``skate.dag``, where users find them.

The hooks here give nodes access to the modules above them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Hooks:
    """Hooks that the modules above set as they are loaded: all of them, once a program has named the API."""

    #: Compiles a graph: (its last node, arguments of ``experimental_compile``) to a CompiledDAG.
    #: ``skate.actor`` sets it, which is loaded wherever there is a handle whose methods can be compiled.
    compile_graph: Callable[..., Any] | None = None
    #: Makes a remote function of a function and its options; ``skate.remote_function`` sets it.
    make_remote: Callable[[Any, dict[str, Any]], Any] | None = None
    #: Makes an actor class of a class and its options; ``skate.actor`` sets it.
    make_actor_class: Callable[[Any, dict[str, Any]], Any] | None = None


hooks = Hooks()
