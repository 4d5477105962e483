"""Processes for the calls of a task whose own process has ended before: one for each function.

::

    isolated task ──► FreshProcesses ──► another Python: joins the session late, unpickles, makes the function
          map(f) ──── operator_child(0) ─────► f        serves calls until one ends it; then there is another
    filter(good) ──── operator_child(1) ─────► good
      read_files ──── child(...) ────────────► decoder
"""

from __future__ import annotations

import importlib
import os
import pickle
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from skate import api, cloudpickle, engine
from skate.data._operators.child_calls import ChildFunction
from skate.data._task.operators import ChildCalls, Isolation, NotOfRow
from skate.engine.interface import Engine
from skate.engine.refs import ObjectRef
from skate.runtime_context import get_runtime_context


class FreshProcesses(Isolation):
    """Starts another Python for each function, since libraries with threads or a GPU do not survive a fork.

    Args:
        stage: the pickle of the stage's operators and read tasks. Functions are made of it and not of those
            here, which may hold by now what cannot be pickled.
    """

    def __init__(self, stage: bytes) -> None:
        self._stage = stage
        context = get_runtime_context()
        self._session = context.gcs_address, context.namespace

    def child(self, make: Callable[[], Callable[[Any], Any]], name: str) -> ChildCalls:
        begin = partial(_begin, *self._session, cloudpickle.dumps(make))
        return ChildFunction(begin, name, is_fresh=True)

    def operator_child(self, position: int, name: str) -> ChildCalls:
        return self.child(partial(_operators_function, self._stage, position), name)


def _operators_function(stage: bytes, position: int) -> Callable[[Any], Any]:
    operators, _ = pickle.loads(stage)
    function: Callable[[Any], Any] = operators[position].make_for_child()
    return function


def _begin(address: str, namespace: str, make: bytes) -> Callable[[Any], Any]:
    """Return the function, in the child; what it needs of the session is there when it asks for it."""
    if os.environ.get("SKATE_AS_RAY"):
        importlib.import_module("skate.compat").install()
    engine.use(cast(Engine, _LateSession(address, namespace)))
    function: Callable[[Any], Any] = pickle.loads(make)()
    return function


class _LateSession:
    """Stands for the engine until it is used: then this process joins the session of the task.

    Most functions never use it, and to join takes as long as to start another Python.
    """

    def __init__(self, address: str, namespace: str) -> None:
        self._address = address
        self._namespace = namespace
        self._lock = threading.RLock()

    def _joined(self) -> Engine:
        with self._lock:
            if cast(Any, engine.connection.engine) is self:
                engine.leave()
                try:
                    api.init(self._address, namespace=self._namespace, log_to_driver=False)
                except Exception as error:
                    raise NotOfRow(error) from error
        return engine.require_engine("use the session")

    def adopt_ref(self, object_id: bytes, owner_address: str) -> ObjectRef[Any]:
        return self._joined().adopt_ref(object_id, owner_address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._joined(), name)
