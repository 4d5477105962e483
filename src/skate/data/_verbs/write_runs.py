"""Running a write: the target is checked first, committed last, and cleaned up when the run fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skate.data._io.sink import Sink
from skate.data._operators.dead_letters import letters_to_table
from skate.data._plan.logical import Apply, Exchanged, Node, Read, Write
from skate.data._task.operators import TaskContext
from skate.data._verbs import facts, running
from skate.data._verbs import resources as options
from skate.data._verbs.core import Core


def write(
    dataset: Core,
    verb: str,
    sink: Sink,
    ray_remote_args: Mapping[str, Any] | None = None,
    concurrency: int | None = None,
    dead_letter: str | None = None,
) -> None:
    """Write the rows of a data set now.

    Args:
        dataset: the rows.
        verb: the method, for errors.
        sink: writes and commits.
        ray_remote_args: options of its tasks.
        concurrency: most tasks that write at a time.
        dead_letter: a folder that gets the rows that failed, as parquet, together with the output.
    """
    node = Write(
        dataset._plan,
        sink,
        options.resources(verb, free=ray_remote_args),
        options.most_tasks(verb, concurrency),
    )
    identify = getattr(sink, "identify", None)
    if identify is not None and sink.is_resumable:
        identify(identity(dataset._plan))
    sink.on_schema = dataset._context.on_schema
    schema = facts.known_schema(dataset._plan)
    sink.start(schema)
    if not sink.is_needed():
        if sink.is_resumable:  # an earlier run did it all
            dataset._recall(sink.failures().letters)
        return
    letters = None
    try:
        if dead_letter is not None:
            letters = _letter_sink(dead_letter, sink)
            letters.start(None)
        results: list[Any] = []
        with running.run(node, dataset._context, dataset._watch) as execution:
            for _ in execution:
                pass
            for written in execution.results():
                results.append(written.result)
                schema = written.schema if schema is None else schema
        if letters is not None and letters.is_needed():
            _write_letters(letters, execution.letters)
        sink.commit(results, schema)
    except BaseException as error:
        sink.abort(error)
        if letters is not None:
            letters.abort(error)
        raise


def _letter_sink(path: str, sink: Sink) -> Sink:
    """Return the sink of the letters of a write.

    Letters become visible just before the rows. A run that ended in between must not write them again when
    it is resumed: their sink knows by the name of the write that they are there.
    """
    from skate.data._io.writers.parquet import ParquetSink

    if not sink.is_resumable:
        return ParquetSink(path)
    letters = ParquetSink(path, resume="force")
    letters.identify({"letters of": getattr(sink, "write_uuid", "")})
    return letters


def _write_letters(sink: Sink, found: Any) -> None:
    table = letters_to_table(found)
    result = sink.write(iter([table]), TaskContext("letters.0"))
    sink.commit([result], table.schema)


def identity(plan: Node) -> dict[str, Any]:
    """Return plain data that changes when a plan would make other rows: source, options, functions' code.

    Args:
        plan: the plan.

    Returns:
        ``{"source": ..., "operators": ...}``: the names say what changed, in the error of a write that
        cannot go on.
    """
    sources = []
    operators = []
    for node in facts.nodes(plan):
        if isinstance(node, Read):
            sources.append(node.source.fingerprint())
        elif isinstance(node, Apply):
            operators.append([node.name, key_of(node.operator)])
        elif isinstance(node, Exchanged):
            operators.append([node.name, key_of(node.exchange)])
        else:
            operators.append([node.name, key_of(node)])
    return {"source": sources[0] if len(sources) == 1 else sources, "operators": operators}


def key_of(thing: Any) -> Any:
    """Return plain data that is equal for equal operators, exchanges or nodes, without the nodes below."""
    key = getattr(thing, "key", None)
    if callable(key):
        return key()
    if isinstance(thing, Node):
        # Nodes below are listed on their own.
        bare = {name: None for name in ("input", "parts", "sides") if hasattr(thing, name)}
        return repr(replace(thing, **bare))
    return repr(thing)
