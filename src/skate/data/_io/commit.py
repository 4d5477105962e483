"""Makes the decisions of a write that becomes visible all at once; does no I/O and reads no clock.

::

    WRITING ──tasks finished──► LISTING ──► PLACING ──► MARKING ──► DELETING ──► CLEANING ──► DONE
       │                           │           │  a run that ends from here on is finished by the next run
       └───────── failed ──────────┘           │
                    │                          └── failed ──► KEPT
                    ├── not resumable ──► DISCARDING ──► DISCARDED
                    └── resumable ──────► KEPT

Rows are staged in a hidden folder. ``LISTING`` writes the list of all files: from then on the write has
happened. ``PLACING`` renames the files into the target, ``MARKING`` notes that it did, ``DELETING`` removes
what mode "overwrite" replaces, ``CLEANING`` removes the staging folder. Each step can be done again after a
crash.

``commit_files`` performs the commands and reports what happened as events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class CommitError(RuntimeError):
    """A write could not be prepared, resumed or committed; the message says why and what to do."""


class TargetInUse(CommitError):
    """Another driver, which still lives, writes the same resumable output; or a newer one took it over."""


class PlanChanged(CommitError):
    """The earlier run that is to be resumed had other code, another source or other options."""


class SaveMode(str, Enum):
    """The choices for a write whose target exists.

    Attributes:
        APPEND: add files; what is there stays. The default.
        OVERWRITE: replace what is there, after the new files are in place.
        IGNORE: write nothing if the target exists.
        ERROR: raise ``ValueError`` if the target exists.
        CREATE: the same as ERROR: the write is the one that creates the target.
        UPSERT: update rows by key; for tables, not for files.

    Example:
        >>> ds.write_parquet("out", mode=SaveMode.OVERWRITE)
    """

    CREATE = "create"
    APPEND = "append"
    OVERWRITE = "overwrite"
    IGNORE = "ignore"
    ERROR = "error"
    UPSERT = "upsert"


def save_mode(mode: Any) -> SaveMode:
    """Return the mode that a user gave as text or as a member, for files.

    Raises:
        ValueError: it is no mode, or none that files have.
    """
    known = [one.value for one in SaveMode if one is not SaveMode.UPSERT]
    try:
        found = SaveMode(mode)
    except ValueError:
        raise ValueError(f"mode={mode!r} is not known; modes of a write are {', '.join(known)}") from None
    if found is SaveMode.UPSERT:
        raise ValueError(
            f"mode='upsert' updates rows by key, which files cannot do; modes of files are {', '.join(known)}"
        )
    return found


def is_to_be_written(mode: SaveMode, exists: bool, path: str) -> bool:
    """Tell whether a write goes on, from its mode and whether its target exists.

    Raises:
        ValueError: it must not, by its mode.
    """
    if not exists or mode in (SaveMode.APPEND, SaveMode.OVERWRITE):
        return True
    if mode is SaveMode.IGNORE:
        return False
    raise ValueError(
        f"{path} exists already, and mode={mode.value!r} writes to a new path only. Use mode='overwrite' to "
        "replace what is there, mode='append' to add files to it, or mode='ignore' to keep it and write "
        "nothing."
    )


class State(Enum):
    """Where a write is."""

    WRITING = "writing"
    LISTING = "listing"
    PLACING = "placing"
    MARKING = "marking"
    DELETING = "deleting"
    CLEANING = "cleaning"
    DONE = "done"
    DISCARDING = "discarding"
    DISCARDED = "discarded"
    KEPT = "kept"


class Event(Enum):
    """Facts that the effects report."""

    TASKS_FINISHED = "all tasks finished"
    LISTED = "files listed"
    PLACED = "files placed"
    MARKED = "marker written"
    DELETED = "old files deleted"
    CLEANED = "staging removed"
    DISCARDED = "staging discarded"
    FAILED = "failed"


class Command(Enum):
    """Steps that the effects perform."""

    LIST = "write the list of files"
    PLACE = "rename staged files into the target"
    MARK = "write the marker"
    DELETE = "delete replaced files"
    CLEAN = "remove the staging folder"
    DISCARD = "remove the staging folder of a write that did not happen"


S, E, C = State, Event, Command
TABLE: dict[tuple[State, Event], tuple[State, Command | None]] = {
    (S.WRITING, E.TASKS_FINISHED): (S.LISTING, C.LIST),
    (S.LISTING, E.LISTED): (S.PLACING, C.PLACE),
    (S.PLACING, E.PLACED): (S.MARKING, C.MARK),
    (S.MARKING, E.MARKED): (S.DELETING, C.DELETE),
    (S.DELETING, E.DELETED): (S.CLEANING, C.CLEAN),
    (S.CLEANING, E.CLEANED): (S.DONE, None),
    (S.WRITING, E.FAILED): (S.DISCARDING, C.DISCARD),
    (S.LISTING, E.FAILED): (S.DISCARDING, C.DISCARD),
    (S.DISCARDING, E.DISCARDED): (S.DISCARDED, None),
    # The list is written: the write has happened, and the next run finishes it.
    (S.PLACING, E.FAILED): (S.KEPT, None),
    (S.MARKING, E.FAILED): (S.KEPT, None),
    (S.DELETING, E.FAILED): (S.KEPT, None),
    (S.CLEANING, E.FAILED): (S.KEPT, None),
    # Failing again, or after the end, changes nothing.
    (S.DISCARDING, E.FAILED): (S.KEPT, None),
    (S.DISCARDED, E.FAILED): (S.DISCARDED, None),
    (S.KEPT, E.FAILED): (S.KEPT, None),
    (S.DONE, E.FAILED): (S.DONE, None),
}


@dataclass
class Commit:
    """The state of one write.

    Attributes:
        is_resumable: what is staged is kept when the run fails before its commit.
        state: where it is.
    """

    is_resumable: bool
    state: State = State.WRITING

    def handle(self, event: Event) -> Command | None:
        """Apply an event and return what must be done next.

        Raises:
            CommitError: the event has no rule in this state; nothing is changed.
        """
        try:
            state, command = TABLE[self.state, event]
        except KeyError:
            raise CommitError(f"a write is {self.state.value}; no rule for: {event.value}") from None
        if state is State.DISCARDING and self.is_resumable:
            state, command = State.KEPT, None
        self.state = state
        return command


@dataclass(frozen=True)
class Found:
    """The files that an earlier run of a write left.

    Attributes:
        has_plan: it wrote its plan.
        has_list: it wrote the list of all files: it has happened.
        has_marker: its files are in the target.
        is_intact: the files that the marker names are still there.
        differences: of its plan and the plan of this run; empty: none.
    """

    has_plan: bool = False
    has_list: bool = False
    has_marker: bool = False
    is_intact: bool = True
    differences: tuple[str, ...] = ()


class Start(Enum):
    """How a run begins."""

    NEW = "new"
    RESUME = "resume"
    FINISH = "finish the earlier commit, then look again"
    NOTHING = "nothing is to be done"


def how_to_start(found: Found, force: bool, path: str) -> Start:
    """Decide how a resumable write begins, from what an earlier run left.

    Args:
        found: what is there.
        force: go on with the recorded parts although the plan is another (``resume="force"``).
        path: of the target, for the message.

    Raises:
        PlanChanged: an unfinished run with another plan is there.
    """
    if found.has_list:
        return Start.FINISH
    if found.has_marker:
        # Complete. The same write again has nothing to do; another one is a new write to the same target.
        return Start.NEW if found.differences or not found.is_intact else Start.NOTHING
    if not found.has_plan:
        return Start.NEW
    if found.differences and not force:
        lines = "\n".join(f"  - {line}" for line in found.differences)
        raise PlanChanged(
            f"An earlier run of a write to {path} did not finish, and this run is not the same:\n{lines}\n"
            "Its rows and new ones might not fit together. Undo the change to resume; pass "
            "resume='force' to keep "
            "the parts that the earlier run finished and read only the others; or remove the folder "
            f"{path}/_skate to begin again."
        )
    return Start.RESUME


def state_of(found: Found) -> State:
    """Return the state in which the commit of an earlier run, whose list is there, is taken up."""
    return State.DELETING if found.has_marker else State.PLACING


def resumed_command(state: State) -> Command:
    """Return the command with which a commit that was taken up in a state goes on."""
    return {State.DELETING: Command.DELETE, State.PLACING: Command.PLACE}[state]


@dataclass(frozen=True)
class Group:
    """Parts of a source and all that was written of them: the results hold rows of these parts alone.

    Attributes:
        parts: names of parts.
        results: of the tasks that wrote their rows.
    """

    parts: tuple[str, ...]
    results: tuple[Any, ...]


@dataclass
class PartLedger:
    """Finds out when parts of a source are written completely, though tasks mix rows of several parts.

    A part may be recorded when every task that got rows of it has finished, together with all parts that
    share a task with it: the file of such a task holds rows of them all, so it is kept or written again as a
    whole.

    Example:
        >>> ledger = PartLedger()
        >>> ledger.wrote(["a", "b"], "task 1")
        []
        >>> ledger.ended("a")
        []
        >>> ledger.ended("b")
        [Group(parts=('a', 'b'), results=('task 1',))]
    """

    _parents: dict[str, str] = field(default_factory=dict)
    _members: dict[str, list[str]] = field(default_factory=dict)
    _results: dict[str, list[Any]] = field(default_factory=dict)
    _open: dict[str, int] = field(default_factory=dict)

    def _root(self, part: str) -> str:
        if part not in self._parents:
            self._parents[part] = part
            self._members[part], self._results[part], self._open[part] = [part], [], 1
        while self._parents[part] != part:
            self._parents[part] = part = self._parents[self._parents[part]]
        return part

    def _join(self, parts: Sequence[str]) -> str:
        root = self._root(parts[0])
        for other in parts[1:]:
            small, root = sorted((self._root(other), root), key=lambda one: len(self._members.get(one, ())))
            if small != root:
                self._parents[small] = root
                self._members[root] += self._members.pop(small)
                self._results[root] += self._results.pop(small)
                self._open[root] += self._open.pop(small)
        return root

    def wrote(self, parts: Iterable[str], result: Any) -> list[Group]:
        """Take the result of a task into account that got rows of parts."""
        names = list(parts)
        if names:
            self._results[self._join(names)].append(result)
        return []

    def ended(self, part: str) -> list[Group]:
        """Note that no task will get further rows of a part. Return the groups that are complete by that."""
        root = self._root(part)
        self._open[root] -= 1
        if self._open[root]:
            return []
        group = Group(tuple(self._members.pop(root)), tuple(self._results.pop(root)))
        del self._open[root]
        for member in group.parts:
            del self._parents[member]
        return [group]
