"""Makes files for objects that shared memory has no room for. The files have no names.

However the daemon ends, the kernel frees a file with the last process that has it open or mapped.
"""

from __future__ import annotations

import os

from skate._base import descriptors

#: A disk counts as full at this use (percent), since other programs need it too.
_FULL = 95
#: The most bytes written at once: large enough to cost little, small enough to stop soon.
_CHUNK = 8 * 1024 * 1024


def open_nameless(folder: str) -> int:
    """Return the descriptor of a new file in that folder; the file ends when no process has it open.

    Raises:
        OSError: the folder is not writable.
    """
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # a file system that has no such files
        tempfile = descriptors.load("tempfile")
        made: tuple[int, str] = tempfile.mkstemp(dir=folder)
        os.unlink(made[1])
        return made[0]


def room(folder: str) -> int:
    """Return how many more bytes may be written to a folder's disk."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.statvfs(folder)
    except OSError:
        return 0
    reserved = found.f_blocks * (100 - _FULL) // 100
    return max(0, found.f_bavail - reserved) * found.f_frsize


def copy(source: memoryview, fd: int, offset: int) -> None:
    """Write all of ``source`` to a place in a file.

    Raises:
        OSError: the disk refused the data.
    """
    done = 0
    while done < len(source):
        done += os.pwrite(fd, source[done : done + _CHUNK], offset + done)


def default_folder() -> str:
    """Return a folder on a disk: the temporary one, unless it is a memory file system."""
    tempfile = descriptors.load("tempfile")
    temporary, other = tempfile.gettempdir(), "/var/tmp"  # noqa: S108  (the files have no names)
    return other if _is_memory(temporary) and not _is_memory(other) else temporary


def _is_memory(folder: str) -> bool:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = [line.split(" - ") for line in file]
    except OSError:
        return False
    path = os.path.realpath(folder)
    best, kind = "", ""
    for left, right in mounts:
        point = left.split()[4]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind in ("tmpfs", "ramfs")
