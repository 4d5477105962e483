"""Begins a write: looks at the target and at what earlier runs left there, before anything is made."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from skate.data._io.commit import CommitError, SaveMode, Start, TargetInUse, how_to_start, is_to_be_written
from skate.data._io.commit_files import KEPT, JobFiles, Recorded, WriteFacts
from skate.data._io.commit_lock import acquire, acquire_abandoned, try_acquire
from skate.data._io.commit_points import crash_point
from skate.data._io.commit_staging import HIDDEN
from skate.data._io.commit_store import Store

RESUMABLE_JOB = "resume"
_ATTEMPTS = 20


@dataclass(frozen=True)
class Target:
    """Where a write goes and what it may do there.

    Attributes:
        store: the folder.
        mode: what to do if it exists.
        try_create_dir: make it if it does not exist.
    """

    store: Store
    mode: SaveMode
    try_create_dir: bool = True


@dataclass
class Begun:
    """A write that began.

    Attributes:
        files: of its job; None: nothing is to be written.
        write_uuid: names the write in file names.
        recorded: what earlier drivers of the same write did; if nothing is to be written, its failures alone.
        facts: of the write that was complete before, if nothing is to be written.
    """

    files: JobFiles | None
    write_uuid: str = ""
    recorded: Recorded = field(default_factory=Recorded)
    facts: WriteFacts = field(default_factory=WriteFacts)


def begin(target: Target, plan: dict[str, Any] | None, force: bool = False) -> Begun:
    """Begin a write, or resume it.

    Args:
        target: where it goes.
        plan: what the write is, plain data; None: the write cannot be resumed.
        force: resume although the plan is another.

    Raises:
        ValueError: the mode forbids it.
        NotADirectoryError: the target is a file.
        FileNotFoundError: the target does not exist and must not be made.
        PlanChanged: an unfinished run with another plan is there.
        TargetInUse: another driver does the same write now.
    """
    store = target.store
    if store.kind() == "file":
        raise NotADirectoryError(
            f"{store.root} is a file; files are written to a folder. Give the path of a folder."
        )
    ours = RESUMABLE_JOB if plan is not None else ""
    discarded = _look_after_abandoned(store, ours)
    made = store.missing()
    try:
        if plan is None:
            _check(target)
            return _begin_new(store, made)
        for _ in range(_ATTEMPTS):
            try:
                return _begin_resumable(target, plan, force, made)
            except FileNotFoundError:
                # Another driver of this write ended in between, and removed the job's folder.
                if store.kind() is None and not target.try_create_dir:
                    raise
        raise TargetInUse(f"Other drivers write to {store.root} again and again; this one gave up.")
    except _NothingToWrite:
        return Begun(None)
    finally:
        for files in discarded:
            files.fail()


class _NothingToWrite(Exception):
    """Mode "ignore" and the target exists."""


def _check(target: Target) -> None:
    """Check the mode, before anything is made."""
    store = target.store
    kind = store.kind()
    # A target that has nothing but our folder comes from a run that ended before it wrote anything.
    exists = kind is not None and store.names("") != [HIDDEN]
    if not is_to_be_written(target.mode, exists, store.root):
        raise _NothingToWrite
    if kind is None and not target.try_create_dir:
        raise FileNotFoundError(
            f"{store.root} does not exist, and try_create_dir=False. Make the folder, or pass "
            "try_create_dir=True."
        )


def _begin_new(store: Store, made: list[str]) -> Begun:
    write_uuid = uuid.uuid4().hex
    files = JobFiles(store, f"w-{write_uuid}", is_resumable=False)
    files.made = made
    for _ in range(_ATTEMPTS):
        store.make_folder(files.folder)
        try:
            files.lock = try_acquire(store, files.name("lock"))
        except FileNotFoundError:
            continue
        if (
            files.lock is not None
        ):  # else another run took the new folder for an abandoned one, and removes it
            break
    else:
        raise CommitError(f"{store.path(files.folder)} is removed by another program again and again")
    crash_point("before_plan")
    crash_point("after_plan")
    store.make_folder(files.staged)
    return Begun(files, write_uuid)


def _begin_resumable(target: Target, plan: dict[str, Any], force: bool, made: list[str]) -> Begun:
    store = target.store
    files = JobFiles(store, RESUMABLE_JOB, is_resumable=True)
    if store.kind(files.folder) is None:
        _check(target)
        store.make_folder(files.folder)
        files.made = made
    files.lock = acquire(store, files.name("lock"), files.least_fence())
    try:
        found = files.look(plan)
        how = how_to_start(found, force, store.root)
        if how is Start.FINISH:
            files.take_up(found)
            return _begin_resumable(target, plan, force, made)
        if how is Start.NOTHING:
            facts = WriteFacts(**files.marked_facts())
            recorded = Recorded(failures=files.marked_failures())
            files.clean()  # of what a run left that ended while it cleaned
            return Begun(None, recorded=recorded, facts=facts)
        if how is Start.RESUME:
            recorded, write_uuid = files.recorded(), files.write_uuid()
            if found.differences:
                files.write_plan(plan, write_uuid)
            files.facts.resumed_parts = len(recorded.parts)
        else:
            _check(target)
            files.forget()
            recorded, write_uuid = Recorded(), uuid.uuid4().hex
            crash_point("before_plan")
            files.write_plan(plan, write_uuid)
            crash_point("after_plan")
        store.make_folder(files.staged)
        return Begun(files, write_uuid, recorded)
    except BaseException:
        files.release()
        raise


def _look_after_abandoned(store: Store, ours: str) -> list[JobFiles]:
    """Finish writes whose drivers ended in the midst of their commit; return those to be discarded."""
    discarded = []
    for job in store.names(HIDDEN):
        files = JobFiles(store, job, is_resumable=not job.startswith("w-"))
        if job == ours or set(store.names(files.folder)) in ({"done.json"}, KEPT):
            continue
        try:
            files.lock = acquire_abandoned(store, files.name("lock"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        if files.lock is None:
            continue
        found = files.look(None)
        if found.has_list:
            files.take_up(found)
        elif files.is_resumable:
            files.release()
        else:
            discarded.append(files)
    return discarded
