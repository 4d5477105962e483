"""State has owners: fields of the tables are written where the table below says, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from .sources import PACKAGE

#: Class to the module of its owner and, for fields that others write, who they are and why.
CALLS, OBJECTS, PROCESS = "_worker/calls/", "_worker/objects/", "_worker/process/"
OWNERS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    (OBJECTS + "refs.py", "ObjectEntry"): {
        # Sub-states with a decision module of their own.
        "maker": (CALLS + "lineage.py",),
        "lineage": (CALLS + "lineage.py",),
        "report_if_unretrieved": (CALLS + "unretrieved.py",),
        "fetching": (OBJECTS + "borrowing.py",),
        "gone": (CALLS + "streams.py",),
        # Hot paths: an entry that no other thread has seen; one waiter.
        "task": (CALLS + "submission.py",),
        "waiters": (OBJECTS + "values.py",),
        "kind": (CALLS + "streams.py",),
    },
    (CALLS + "records.py", "TaskRecord"): {
        "route": (CALLS + "submission.py", CALLS + "actor_submitter.py"),
        "pool": (CALLS + "submission.py",),
        "actor": (CALLS + "submission.py", CALLS + "actor_submitter.py"),
        "stream": (CALLS + "submission.py",),
        "name": (CALLS + "submission.py",),
        "group": (CALLS + "submission.py",),
        "retry": (CALLS + "submission.py",),
        "hidden": (CALLS + "submission.py",),
        "dependencies": (CALLS + "submission.py",),
        "pins": (CALLS + "submission.py", CALLS + "results.py", CALLS + "recovery.py"),
        # Where it is: its route sends it and takes it back, results end it.
        "connection": (CALLS + "task_submitter.py", CALLS + "actor_submitter.py", CALLS + "actor_client.py",
                       CALLS + "results.py", CALLS + "tasks.py"),
        "lease": (CALLS + "task_submitter.py",),
        "unresolved": (CALLS + "results.py", CALLS + "recovery.py"),
        "returns": (CALLS + "results.py",),
        "cancelled": (CALLS + "cancellation.py",),
        "killed": (CALLS + "cancellation.py",),
        "lineage": (CALLS + "lineage.py",),
        "makes": (CALLS + "lineage.py",),
        "is_reconstruction": (CALLS + "lineage.py", CALLS + "recovery.py"),
        "flags": (CALLS + "recovery.py",),
        "lost_items": (CALLS + "recovery.py",),
    },
    (CALLS + "lease_pool.py", "WorkerLease"): {
        "idle_since": (CALLS + "task_submitter.py",),
        "gpus": (CALLS + "task_submitter.py",),
    },
    (CALLS + "lease_pool.py", "LeasePool"): {
        "depth": (CALLS + "task_submitter.py", "_inline/core.py"),
        "environment": (CALLS + "task_submitter.py",),
        "requirement": (CALLS + "task_submitter.py",),
        "group": (CALLS + "task_submitter.py",),
        "removed": (CALLS + "task_submitter.py",),
    },
    (CALLS + "actor_client.py", "ActorClient"): {
        "route": (CALLS + "actor_submitter.py",),
        "keep": (CALLS + "submission.py", CALLS + "actor_submitter.py"),
        "watched": (CALLS + "actor_submitter.py",),
        "cause": (CALLS + "actor_submitter.py",),
        "connection": (CALLS + "actor_submitter.py",),
        "max_pending": ("engine/runtime.py",),
        "out_of_order": ("engine/runtime.py",),
    },
}  # fmt: skip
#: Names by which modules hold things of these classes.
NAMES = {
    "ObjectEntry": {"entry", "inner", "outer", "ready", "_entry", "argument", "needed", "other", "_end"},
    "TaskRecord": {"task", "call", "running"},
    "WorkerLease": {"lease"},
    "LeasePool": {"pool"},
    "ActorClient": {"client", "_client"},
}


def _fields(module: str, kind: str) -> set[str]:
    """Return the names of the attributes of a class."""
    tree = ast.parse((PACKAGE / module).read_text())
    body = next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == kind)
    found = {
        one.target.id
        for one in body.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    for node in ast.walk(body):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def _writes(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, the last name of what is written to, the attribute) of each write to another thing than self."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            holder = node.value
            name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            yield node.lineno, name, node.attr


def foreign_writes(module: str, source: str) -> list[str]:
    """Return the writes of a module to fields that it does not own."""
    found = []
    for (owner, kind), others in OWNERS.items():
        fields = _fields(owner, kind)
        for line, name, attribute in _writes(source):
            if (
                name in NAMES[kind]
                and attribute in fields
                and module != owner
                and module not in others.get(attribute, ())
            ):
                found.append(f"{module}:{line} writes {kind}.{attribute}, whose owner is {owner}")
    return found


MODULES = sorted(
    str(path.relative_to(PACKAGE))
    for package in ("_worker", "_inline", "engine", "dag", "_launch", "util")
    for path in (PACKAGE / package).rglob("*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_no_state_is_written_outside_of_its_owner(module: str) -> None:
    assert foreign_writes(module, (PACKAGE / module).read_text()) == []


@pytest.mark.parametrize("source", ["entry.pins += 1", "ref._entry.kind = 3", "task.retries_left, x = 1, 2",
                                    "lease.retiring = True", "self._client.state: str = 'DEAD'"])  # fmt: skip
def test_a_planted_write_is_seen(source: str) -> None:
    assert len(foreign_writes("_worker/execution/executor.py", source)) == 1


@pytest.mark.parametrize(("owner", "kind"), OWNERS)
def test_an_exception_is_needed(owner: str, kind: str) -> None:
    for attribute, modules in OWNERS[owner, kind].items():
        for module in modules:
            writes = {(name, one) for _, name, one in _writes((PACKAGE / module).read_text())}
            assert any((name, attribute) in writes for name in NAMES[kind]), (
                f"{module} does not write {kind}.{attribute}"
            )
