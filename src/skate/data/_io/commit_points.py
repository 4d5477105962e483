"""The moments of a write at which tests end its process. Outside of tests, a point does nothing."""

from __future__ import annotations

import os
import signal

#: Names the point at which the process is to end: ``"after_record"``, or ``"after_record:3"`` for its third
#: time.
VARIABLE = "SKATE_DATA_CRASH_POINT"

#: Every point, and where it is.
POINTS = {
    "before_plan": "the driver has locked the job, and nothing says yet what it is",
    "after_plan": "the plan is written, no row yet",
    "inside_staged_write": "a worker has written a part of a file",
    "staged_before_rename": "a worker's files are closed, their folder has still its temporary name",
    "staged_after_rename": "a worker's files are staged, the driver does not know it yet",
    "half_manifest_line": "the driver has written the first half of a record",
    "after_record": "a record is written",
    "files_made_uniform": "one of the files that lacked a column is written again with it",
    "before_list": "all rows are staged, the list of files is not written",
    "after_list": "the list of files is written, nothing is in place",
    "half_placed": "some files are in place",
    "before_marker": "all files are in place, nothing says so",
    "after_marker": "the marker is written, nothing is deleted",
    "deleting": "one of the old files is deleted",
    "cleaning": "a part of the staging folder is removed",
}


def crash_point(name: str) -> None:
    """End the process by SIGKILL if the environment names this point."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None or wanted.partition(":")[0] != name:
        return
    times = int(wanted.partition(":")[2] or 1)
    if times > 1:
        os.environ[VARIABLE] = f"{name}:{times - 1}"
        return
    os.kill(os.getpid(), signal.SIGKILL)
