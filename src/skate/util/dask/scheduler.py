"""Provides schedulers for dask, which run each node of a graph as a task and pass refs along its edges."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import dask
import dask.config

from skate import api
from skate.engine.refs import ObjectRef
from skate.util.dask._graph import Alias, Job, Node, Value, options_by_key, unify
from skate.util.dask.callbacks import local_ray_callbacks, unpack_ray_callbacks

#: Values of these types are sent inside the task; others are stored once for all tasks that need them.
_SMALL = (int, float, bool, complex, type(None))


def ray_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Run a graph of dask: the function that dask takes as ``scheduler=``.

    Args:
        dsk: the graph.
        keys: the key, or nested lists of the keys, whose values are wanted.
        ray_remote_args: options of every task, such as ``{"num_cpus": 2}``;
            ``dask.annotate(ray_remote_args=...)`` sets those of some.
        ray_persist: return refs instead of values.
        ray_callbacks: RayDaskCallbacks; None: those that are active.
        kwargs: arguments for dask's own schedulers (``num_workers``, ``pool``, ...): not used.

    Returns:
        The values, nested as the keys are.

    Raises:
        RayTaskError: a function raised; also an instance of the exception's own type.

    Example:
        >>> ray_dask_get({"x": 1, "y": (add, "x", 2)}, "y")
        3
    """
    persist: bool = kwargs.get("ray_persist", False)
    options: dict[str, Any] = kwargs.get("ray_remote_args") or {}
    nodes = unify(dsk, keys)
    with local_ray_callbacks(kwargs.get("ray_callbacks")) as active:
        hooks = unpack_ray_callbacks(active)
        made = _Submission(nodes, options, options_by_key(dsk), hooks).run()
        for hook in hooks["postsubmit_all"]:
            hook([one for one in made.values() if isinstance(one, ObjectRef)], dsk)
        result = _repack(keys, made) if persist else _values(keys, made)
        for hook in hooks["finish"]:
            hook(result)
    return result


def ray_dask_get_sync(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Like ``ray_dask_get``, which submits without threads of its own, too. For programs that name it."""
    return ray_dask_get(dsk, keys, **kwargs)


def ray_dask_persist(*args: Any, **kwargs: Any) -> Any:
    """Run collections of dask; return equal ones that hold refs of the results, which stay in the store.

    Args:
        args: collections.
        kwargs: as with ``dask.persist``.

    Example:
        >>> (frame,) = ray_dask_persist(frame)
    """
    kwargs.setdefault("scheduler", _get_persisted)
    return dask.persist(*args, **kwargs)


def _get_persisted(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Run a graph for ``ray_dask_persist``."""
    refs = ray_dask_get(dsk, keys, **{**kwargs, "ray_persist": True})
    return _mapped(refs, lambda one: Persisted(one) if isinstance(one, ObjectRef) else one)


def _mapped(values: Any, change: Callable[[Any], Any]) -> Any:
    return tuple(_mapped(one, change) for one in values) if type(values) is tuple else change(values)


class Persisted:
    """A result in a graph that ``ray_dask_persist`` returned.

    Dask may put it inside a task, where no ref would be replaced by its value. So it is unpickled as the
    value, in that task's worker.
    """

    def __init__(self, ref: ObjectRef[Any]) -> None:
        self.ref = ref

    def __reduce__(self) -> tuple[Any, ...]:
        return api.get, (self.ref,)


def enable_dask_on_ray(shuffle: str | None = "tasks", use_shuffle_optimization: bool = True) -> Any:
    """Make dask run everything on skate from now on, or inside ``with``.

    Args:
        shuffle: how dataframes are shuffled; "tasks" works without a scheduler of dask's own. None:
            leave it.
        use_shuffle_optimization: accepted as in Ray; dask plans shuffles itself.

    Returns:
        A context manager that undoes it; it need not be used.

    Example:
        >>> with enable_dask_on_ray():
        ...     array.sum().compute()
    """
    settings: dict[str, Any] = {"scheduler": ray_dask_get}
    if shuffle is not None:
        settings["dataframe.shuffle.method"] = shuffle
    return dask.config.set(settings)


def disable_dask_on_ray() -> Any:
    """Let dask choose its scheduler again.

    Returns:
        A context manager that undoes it; it need not be used.
    """
    return dask.config.set({"scheduler": None, "dataframe.shuffle.method": None})


class _Submission:
    """Submits a task for each node of a graph."""

    def __init__(
        self,
        nodes: Mapping[Hashable, Node],
        options: dict[str, Any],
        options_of: Mapping[Hashable, dict[str, Any]],
        hooks: Mapping[str, list[Any]],
    ) -> None:
        self._nodes = nodes
        self._options = options
        self._options_of = options_of
        self._hooks = hooks
        before, after = hooks["pretask"], hooks["posttask"]
        self._around = (before, after) if before or after else None
        #: By key: the ref, or a small value itself.
        self._made: dict[Hashable, Any] = {}
        self._functions: dict[str, Any] = {}

    def run(self) -> dict[Hashable, Any]:
        """Submit all nodes; return a ref, or a small value, for each key."""
        for key, node in self._nodes.items():
            if isinstance(node, Alias):
                self._made[key] = self._made[node.key]
            elif isinstance(node, Value):
                value = node.value.ref if isinstance(node.value, Persisted) else node.value
                inline = isinstance(value, (*_SMALL, ObjectRef))
                self._made[key] = value if inline else api.put(value)
            else:
                self._made[key] = self._submit(key, node)
        return self._made

    def _submit(self, key: Hashable, job: Job) -> Any:
        given = tuple(self._made[needed] for needed in job.needs)
        for hook in self._hooks["presubmit"]:
            replaced = hook(job.run, key, given)
            if replaced is not None:
                return replaced if isinstance(replaced, ObjectRef) else api.put(replaced)
        ref = self._function(key).remote(job, key, self._around, *given)
        for hook in self._hooks["postsubmit"]:
            hook(job.run, key, given, ref)
        return ref

    def _function(self, key: Hashable) -> Any:
        """Return the remote function with the options of a key."""
        name = f"dask:{_name(key)}"
        options = {**self._options, **self._options_of.get(key, {})}
        known = repr((name, sorted(options.items(), key=lambda item: item[0])))
        found = self._functions.get(known)
        if found is None:
            found = self._functions[known] = _compute.options(**{"name": name, **options})
        return found


def _name(key: Hashable) -> str:
    """Return the name in a key: dask's keys are names, or tuples of a name and numbers."""
    text = str(key[0] if isinstance(key, tuple) and key else key)
    name, _, token = text.rpartition("-")
    return name if name and len(token) >= 8 else text


@api.remote
def _compute(job: Job, key: Hashable, around: tuple[list[Any], list[Any]] | None, *given: Any) -> Any:
    """Compute one node, in a worker."""
    values = dict(zip(job.needs, given, strict=True))
    if around is None:
        return job.run(values)
    before, after = around
    states = [hook(key, given) for hook in before]
    result = job.run(values)
    states += [None] * (len(after) - len(states))
    for hook, state in zip(after, states, strict=False):
        hook(key, result, state)
    return result


def _values(keys: Any, made: Mapping[Hashable, Any]) -> Any:
    wanted = list(dict.fromkeys(_flat(keys)))
    refs = {key: made[key] for key in wanted if isinstance(made[key], ObjectRef)}
    values = dict(zip(refs, api.get(list(refs.values())), strict=True))
    return _repack(keys, {key: values[key] if key in refs else made[key] for key in wanted})


def _flat(keys: Any) -> Any:
    if isinstance(keys, list):
        for part in keys:
            yield from _flat(part)
    else:
        yield keys


def _repack(keys: Any, values: Mapping[Hashable, Any]) -> Any:
    """Return values nested as the keys are; lists become tuples, as with dask's own schedulers."""
    if isinstance(keys, list):
        return tuple(_repack(part, values) for part in keys)
    return values[keys]
