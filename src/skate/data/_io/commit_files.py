"""Performs a write's commands on files: plan, manifest, list, renames, marker; the rules are in ``commit``.

::

    target/                         what is visible
    target/_skate/<job>/lock        held by the driver; says the number of the driver (its fence)
                        plan.json   what the write is; resumable writes alone
                        manifest-<fence>.jsonl   parts of the source that are written, and where
                        staged/<fence>/<task>-<attempt>/...   files, by the names that they will have
                        list.json   all files of the write, and those that they replace: the write has
                        happened
                        done.json   the files are in the target; stays for resumable writes
                        letters.json   rows that failed, if there were some; stays with done.json

Writes that cannot be resumed have a job of their own each, ``w-<uuid>``; resumable ones have the job
``resume``.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from skate.data._io.commit import Command, Commit, CommitError, Event, Found, State, resumed_command, state_of
from skate.data._io.commit_letters import Failures
from skate.data._io.commit_lock import JobLock
from skate.data._io.commit_manifest import Manifest
from skate.data._io.commit_plan import differences, records
from skate.data._io.commit_points import crash_point
from skate.data._io.commit_staging import HIDDEN, TaskResult
from skate.data._io.commit_store import Store, folders_above

#: Files that a marker names; of more, the first ones are looked for when it is asked whether the output is
#: there.
_MARKED = 10_000
_REMOTE_THREADS = 16
#: Files of a job that stay after a resumable write.
KEPT = {"done.json", "letters.json"}


@dataclass
class WriteFacts:
    """Files and rows of a write, for statistics.

    Attributes:
        files: files in the target that it wrote.
        rows: rows in them.
        bytes: their size.
        deleted: old files that mode "overwrite" removed.
        resumed_parts: parts of the source that an earlier run had written.
        made_uniform: files that were written again to have the columns and types of the others.
    """

    files: int = 0
    rows: int = 0
    bytes: int = 0
    deleted: int = 0
    resumed_parts: int = 0
    made_uniform: int = 0


@dataclass
class Recorded:
    """The contents of the manifests of earlier drivers.

    Attributes:
        parts: parts of the source, in the order of the records.
        results: results of the tasks that wrote them, by folder.
        next_task: number above those of all tasks.
        failures: rows of these parts that failed.
    """

    parts: list[str] = field(default_factory=list)
    results: dict[str, TaskResult] = field(default_factory=dict)
    next_task: int = 0
    failures: Failures = field(default_factory=Failures)


class JobFiles:
    """The files of one job, and its commit."""

    def __init__(self, store: Store, job: str, is_resumable: bool) -> None:
        self.store = store
        self.folder = f"{HIDDEN}/{job}"
        self.is_resumable = is_resumable
        self.commit = Commit(is_resumable)
        self.lock: JobLock | None = None
        self.facts = WriteFacts()
        #: Of all recorded parts.
        self._failures = Failures()
        self._manifest: Manifest | None = None
        self._list: dict[str, Any] = {}
        self._took_up = False
        #: Folders that this run made for the target, the innermost first: they go if it fails.
        self.made: list[str] = []

    def name(self, file: str) -> str:
        """Return the name of a file of the job."""
        return f"{self.folder}/{file}"

    @property
    def staged(self) -> str:
        """The folder for this driver's tasks."""
        assert self.lock is not None
        return self.name(f"staged/{self.lock.fence}")

    # -- what an earlier run left --------------------------------------------------------------------------

    def look(self, plan: dict[str, Any] | None) -> Found:
        """Return what is there, compared with the plan of this run."""
        names = set(self.store.names(self.folder))
        marker = self._json("done.json") if "done.json" in names else None
        old = self._json("plan.json") if "plan.json" in names else None
        different: list[str] = []
        if plan is not None and marker is not None:
            different = (
                [] if marker["plan"] == digest(plan) else ["the earlier run, which is complete, was another"]
            )
        elif plan is not None and old is not None:
            different = differences(old["plan"], plan)
        return Found(
            has_plan=old is not None,
            has_list="list.json" in names,
            has_marker=marker is not None,
            is_intact=plan is None or marker is None or self._is_intact(marker),
            differences=tuple(different),
        )

    def _is_intact(self, marker: dict[str, Any]) -> bool:
        there = {file.path: file.size for file in self.store.walk("")}
        return all(there.get(path) == size for path, size in marker["files"])

    def _json(self, file: str) -> dict[str, Any]:
        data = self.store.read(self.name(file))
        if data is None:
            raise CommitError(f"{self.store.path(self.name(file))} has vanished while it was to be read")
        found: dict[str, Any] = json.loads(data)
        return found

    def write_plan(self, plan: dict[str, Any], write_uuid: str) -> None:
        """Say what this job is; a plan that is there is replaced as a whole."""
        content = json.dumps({"version": 1, "write_uuid": write_uuid, "plan": plan}).encode()
        self.store.write(self.name("plan.json"), content, sync=True)

    def marked_facts(self) -> dict[str, int]:
        """Return the facts of the complete write that the marker tells of."""
        found: dict[str, int] = self._json("done.json")["facts"]
        return found

    def marked_failures(self) -> Failures:
        """Return the failures of the complete write that the marker tells of."""
        data = self.store.read(self.name("letters.json"))
        return Failures() if data is None else Failures.from_data(json.loads(data))

    def forget(self) -> None:
        """Remove whatever an earlier write of this job left, its marker first; the lock stays."""
        self.store.remove(self.name("done.json"))
        self.store.remove_tree(self.name("staged"))
        for name in self.store.names(self.folder):
            if name != "lock":
                self.store.remove(self.name(name))

    def write_uuid(self) -> str:
        """Return the name that the earlier run gave to the write."""
        return str(self._json("plan.json")["write_uuid"])

    def recorded(self) -> Recorded:
        """Return what earlier drivers recorded and is still staged; remove what they did not record."""
        found = Recorded()
        staged: dict[str, set[str]] = {
            fence: set(self.store.names(self.name(f"staged/{fence}")))
            for fence in self.store.names(self.name("staged"))
        }
        manifests = [name for name in self.store.names(self.folder) if name.startswith("manifest-")]
        for manifest in sorted(manifests, key=lambda name: [int(number) for number in _numbers(name)]):
            for record in records(self.store.read(self.name(manifest)) or b""):
                results: list[TaskResult] = record["results"]
                folders = [result["dir"] for result in results if result["dir"]]
                if not all(_is_staged(folder, staged) for folder in folders):
                    warnings.warn(
                        f"{self.store.path(self.folder)}: staged files of "
                        f"{', '.join(record['parts'][:3])} are gone; "
                        "these parts are read again",
                        stacklevel=2,
                    )
                    continue
                found.parts += record["parts"]
                if "failures" in record:
                    found.failures.add(Failures.from_data(record["failures"]))
                for result in results:
                    found.results[result["dir"] or f"task {result['task']}"] = result
                    found.next_task = max(found.next_task, result["task"] + 1)
        for fence, names in staged.items():
            for name in names:
                folder = self.name(f"staged/{fence}/{name}")
                if folder not in found.results:
                    self.store.remove_tree(folder)
        self._failures.add(found.failures)
        return found

    def least_fence(self) -> int:
        """Return a number above the drivers that staged anything."""
        return 1 + max(
            (int(name) for name in self.store.names(self.name("staged")) if name.isdecimal()), default=0
        )

    # -- while tasks run -----------------------------------------------------------------------------------

    def record(self, parts: Sequence[str], results: Sequence[TaskResult], failures: Failures) -> None:
        """Note that parts of the source are written, and which of their rows failed."""
        assert self.lock is not None
        if self._manifest is None:
            name = self.name(f"manifest-{self.lock.fence}")
            self._manifest = Manifest(self.store, name, self.staged)
        record: dict[str, Any] = {"parts": list(parts), "results": list(results)}
        if failures:
            record["failures"] = failures.as_data()
        self._manifest.append(record)
        self._failures.add(failures)

    # -- the commit ----------------------------------------------------------------------------------------

    def finish(self, results: Sequence[TaskResult], replaces: bool, plan: dict[str, Any] | None) -> None:
        """Make everything visible.

        Args:
            results: of all tasks.
            replaces: all other files of the target are removed.
            plan: of the run.
        """
        if self._manifest is not None:
            self._manifest.close()
        self._run(self.commit.handle(Event.TASKS_FINISHED), (results, replaces, plan))

    def take_up(self, found: Found) -> None:
        """Finish the commit of an earlier run, whose list is there."""
        self._list = self._json("list.json")
        self._took_up = True
        self.commit.state = state_of(found)
        self._run(resumed_command(self.commit.state), None)

    def fail(self) -> None:
        """End the job because the run failed: remove what is staged, or keep it for the next run."""
        self._run(self.commit.handle(Event.FAILED), None)
        self.release()
        if self.commit.state is State.DISCARDED:
            self.store.unmake(self.made)

    def release(self) -> None:
        """Give up the lock, and let the next run do the rest."""
        if self._manifest is not None:
            self._manifest.close()
            self._manifest = None
        if self.lock is not None:
            self.lock.release(remove=False)
            self.lock = None

    def _run(self, command: Command | None, details: Any) -> None:
        while command is not None:
            command = self.commit.handle(self._perform(command, details))

    def _perform(self, command: Command, details: Any) -> Event:
        if command is Command.LIST:
            if self.lock is not None:
                self.lock.check()
            self._write_list(*details)
            return Event.LISTED
        if command is Command.PLACE:
            self._place()
            return Event.PLACED
        if command is Command.MARK:
            content = {"plan": self._list["plan"], "facts": self._list["facts"]}
            files = [[final, size] for _, final, size in self._list["files"][:_MARKED]]
            self.store.write(
                self.name("done.json"),
                json.dumps({**content, "files": files}).encode(),
                sync=self.is_resumable,
            )
            crash_point("after_marker")
            return Event.MARKED
        if command is Command.DELETE:
            self._delete_old()
            return Event.DELETED
        if command is Command.CLEAN:
            self.clean()
            return Event.CLEANED
        self._discard()
        return Event.DISCARDED

    def _write_list(self, results: Sequence[TaskResult], replaces: bool, plan: dict[str, Any] | None) -> None:
        files: list[list[Any]] = []
        owners: dict[str, str] = {}
        rows = 0
        for result in sorted(results, key=lambda one: one["task"]):
            rows += result["rows"]
            folder = result["dir"]
            if not folder:
                continue
            there = self.store.walk(folder)
            if len(there) != result["files"]:
                raise CommitError(
                    f"{self.store.path(folder)} has {len(there)} files, task {result['task']} wrote "
                    f"{result['files']}: "
                    "somebody changed the staging folder. Nothing was committed; remove the folder and "
                    "run again."
                )
            for file in there:
                final = file.path[len(folder) + 1 :]
                if final in owners:
                    raise ValueError(
                        f"two tasks wrote a file {final!r}: one would replace the other, so nothing was "
                        "committed. "
                        "Let the FilenameProvider use the task's number (and those of block and row)."
                    )
                owners[final] = folder
                files.append([file.path, final, file.size])
        old: list[list[Any]] = []
        if replaces:
            old = [
                list(file)
                for file in self.store.walk("")
                if file.path not in owners and not _is_kept(file.path)
            ]
        self._list = {
            "version": 1,
            "files": files,
            "delete": old,
            "plan": digest(plan),
            "facts": {"files": len(files), "rows": rows, "bytes": sum(file[2] for file in files)},
        }
        if self.is_resumable:
            for fence in self.store.names(self.name("staged")):
                self.store.sync(self.name(f"staged/{fence}"))
            self._write_letters()
        crash_point("before_list")
        self.store.write(self.name("list.json"), json.dumps(self._list).encode(), sync=self.is_resumable)
        crash_point("after_list")

    def _write_letters(self) -> None:
        """Keep the rows that failed past the manifests: a run after the commit tells of them, too."""
        if self._failures.letters:
            content = json.dumps(self._failures.as_data()).encode()
            self.store.write(self.name("letters.json"), content, sync=True)
        else:
            self.store.remove(self.name("letters.json"))

    def _place(self) -> None:
        files = self._list["files"]
        folders: dict[str, None] = {"": None}
        for _, final, _ in files:
            folder = final.rpartition("/")[0]
            if folder not in folders:
                self.store.make_folder(folder)
                folders[folder] = None
        if self.store.is_local:
            half = (len(files) + 1) // 2
            missing = []
            for number, (staged, final, _) in enumerate(files, 1):
                missing += self._place_one(staged, final)
                if number == half:
                    crash_point("half_placed")
        else:
            with ThreadPoolExecutor(_REMOTE_THREADS, thread_name_prefix="skate-place") as pool:
                moved = pool.map(lambda file: self._place_one(file[0], file[1]), files)
                missing = [name for names in moved for name in names]
        if missing:
            text = (
                f"{len(missing)} files of a committed write are neither staged nor in {self.store.root}: "
                f"{', '.join(missing[:5])}"
            )
            if not self._took_up:
                raise CommitError(text)
            warnings.warn(text + "; they were removed after the run that wrote them", stacklevel=2)
        if self.is_resumable:
            for folder in folders:
                self.store.sync(folder)
        self.facts.files, self.facts.rows, self.facts.bytes = self._list["facts"].values()
        crash_point("before_marker")

    def _place_one(self, staged: str, final: str) -> list[str]:
        try:
            self.store.rename(staged, final)
        except FileNotFoundError:
            return [] if self.store.kind(final) == "file" else [final]
        except OSError:
            if self.store.kind(staged) is not None:
                raise
            return [] if self.store.kind(final) == "file" else [final]
        return []

    def _delete_old(self) -> None:
        old = self._list["delete"]
        if not old:
            return
        there = {file.path: list(file) for file in self.store.walk("")}
        folders: dict[str, None] = {}
        for number, (path, size, mtime_ns) in enumerate(old):
            # A file that somebody wrote anew under this name since the list was made is theirs.
            if there.get(path) == [path, size, mtime_ns]:
                self.store.remove(path)
                self.facts.deleted += 1
            folders.update(dict.fromkeys(folders_above(path)))
            if number == 0:
                crash_point("deleting")
        for folder in sorted(folders, key=lambda name: -name.count("/")):
            self.store.remove_empty(folder)

    def clean(self) -> None:
        """Remove all of the job's files but the marker of a resumable write, and give up the lock."""
        self.store.remove_tree(self.name("staged"))
        crash_point("cleaning")
        kept = {"lock"} | (KEPT if self.is_resumable else set())
        # The list goes last: without it, a run that finds the rest would take the write for one that did not
        # happen.
        for name in sorted(self.store.names(self.folder), key=lambda one: one == "list.json"):
            if name not in kept:
                self.store.remove(self.name(name))
        self._leave()

    def _discard(self) -> None:
        self.forget()
        self._leave()

    def _leave(self) -> None:
        if self.lock is not None:
            self.lock.release(remove=True)
            self.lock = None
        self.store.remove_empty(self.folder)
        self.store.remove_empty(HIDDEN)


def _numbers(name: str) -> list[str]:
    return name.partition(".")[0].split("-")[1:]


def _is_staged(folder: str, staged: dict[str, set[str]]) -> bool:
    above, _, name = folder.rpartition("/")
    return name in staged.get(above.rpartition("/")[2], ())


def _is_kept(path: str) -> bool:
    """Tell whether mode "overwrite" leaves a file alone: ours, and ``.git`` and its like at the top."""
    top = path.partition("/")[0]
    return top == HIDDEN or top.startswith(".")


def digest(plan: dict[str, Any] | None) -> str:
    """Return a short text that is equal for equal plans."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


__all__ = ["JobFiles", "Recorded", "State", "WriteFacts", "digest"]
