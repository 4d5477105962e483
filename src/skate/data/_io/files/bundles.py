"""How files are packed into tasks: small ones together, large ones in parts.

Bundles depend on the listing and the options alone, never on the machine: a resumed write finds the same
bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from skate.data._io.files.filesystem import FileEntry

# A listing of up to this many files is read whole before it is packed, so that few files make enough tasks.
# Longer ones are packed as they come, into small bundles at first, then into larger ones.
_WHOLE_LISTING = 4096
# Tasks that a listing should make if its files are large enough: enough for most machines, and for even ends.
_WANTED_TASKS = 64
# A bundle of a listing that is not read whole is this part of all before it, as far as limits allow.
_GROWTH = 32
# How much smaller the least bundle is where bundles are recorded.
_SMALLER = 16
# The constructor of a named tuple is a Python function; there is a call for each of many files.
_new_tuple = tuple.__new__


class Piece(NamedTuple):
    """A file, or a part of one.

    Attributes:
        entry: the file.
        part: number of the part, from 0.
        parts: number of parts; 1: the whole file.
    """

    entry: FileEntry
    part: int = 0
    parts: int = 1

    @property
    def start(self) -> int:
        """First byte of the part."""
        return self.entry.size * self.part // self.parts

    @property
    def stop(self) -> int:
        """The byte after the last of the part."""
        return self.entry.size * (self.part + 1) // self.parts

    @property
    def size(self) -> int:
        """Bytes of the part."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole file."""
        return self.parts == 1


@dataclass(frozen=True)
class BundleLimits:
    """How much a task may read.

    Attributes:
        most_bytes: bytes of a bundle at most, if it has more than one file; parts of large files are of this
            size.
        most_files: files of a bundle at most.
        least_bytes: below this, files are packed together even if that leaves few tasks.
    """

    most_bytes: int = 64 << 20
    most_files: int = 1000
    least_bytes: int = 4 << 20


def pack(
    entries: Iterable[FileEntry],
    limits: BundleLimits,
    *,
    may_cut: Callable[[FileEntry], bool],
    parallelism: int = -1,
    is_recorded: bool = False,
) -> Iterator[list[Piece]]:
    """Pack files into bundles, in order; lazy.

    Args:
        entries: the files.
        limits: how much goes into one bundle.
        may_cut: tells whether a file may be cut into parts, if it is large.
        parallelism: number of bundles wanted; -1: by sizes.
        is_recorded: a run that was killed goes on with the bundles that it had not recorded. They are small
            parts of the whole, for it loses those that were under way.

    Yields:
        The pieces of one task.
    """
    rest = iter(entries)
    if parallelism > 0:
        known = list(rest)
        yield from _pack_into(known, parallelism, may_cut)
        return
    head = list(islice(rest, _WHOLE_LISTING))
    is_long = len(head) == _WHOLE_LISTING
    least_bytes = limits.least_bytes // _SMALLER if is_recorded else limits.least_bytes
    first_bytes = limits.most_bytes
    if is_recorded or not is_long:
        total = sum(entry.size for entry in head)
        first_bytes = min(first_bytes, max(least_bytes, total // _WANTED_TASKS))
    first_files = limits.most_files
    if is_recorded or is_long:
        first_files = min(first_files, max(1, len(head) // _WANTED_TASKS))
    yield from _pack_up_to(chain(head, rest), first_bytes, first_files, is_long, limits, may_cut)


def _pack_up_to(
    entries: Iterable[FileEntry],
    first_bytes: int,
    first_files: int,
    grows: bool,
    limits: BundleLimits,
    may_cut: Callable[[FileEntry], bool],
) -> Iterator[list[Piece]]:
    """Pack into bundles of so many bytes and files at first; if they grow, of a part of all before them."""
    bundle: list[Piece] = []
    size = all_bytes = all_files = 0
    large = 2 * limits.most_bytes
    target, most_files = first_bytes, first_files
    for entry in entries:
        if entry.size >= large and may_cut(entry):
            if bundle:
                yield bundle
                bundle, size = [], 0
            parts = -(-entry.size // limits.most_bytes)
            for part in range(parts):
                yield [Piece(entry, part, parts)]
            continue
        if bundle and (size + entry.size > target or len(bundle) >= most_files):
            yield bundle
            all_bytes += size if grows else 0
            all_files += len(bundle) if grows else 0
            target = min(limits.most_bytes, max(first_bytes, all_bytes // _GROWTH))
            most_files = min(limits.most_files, max(first_files, all_files // _GROWTH))
            bundle, size = [], 0
        bundle.append(_new_tuple(Piece, (entry, 0, 1)))
        size += entry.size
    if bundle:
        yield bundle


def _pack_into(
    entries: list[FileEntry], count: int, may_cut: Callable[[FileEntry], bool]
) -> Iterator[list[Piece]]:
    """Pack files into about ``count`` bundles of even bytes, and never into more."""
    total = sum(entry.size for entry in entries)
    if len(entries) < count:
        for entry in entries:
            share = max(1, round(count * entry.size / max(1, total)))
            parts = min(share, max(1, entry.size)) if share > 1 and may_cut(entry) else 1
            for part in range(parts):
                yield [Piece(entry, part, parts)]
        return
    # Every file weighs its bytes and a constant: a thousand empty files are work as well.
    weights = [entry.size + (16 << 10) for entry in entries]
    left_weight, left_bundles = sum(weights), count
    bundle: list[Piece] = []
    size = 0
    for index, entry in enumerate(entries):
        left_files = len(entries) - index
        even = left_weight / left_bundles
        is_full = bundle and (size + weights[index] / 2 > even or left_files < left_bundles)
        if is_full and left_bundles > 1:
            yield bundle
            left_weight -= size
            left_bundles -= 1
            bundle, size = [], 0
        bundle.append(Piece(entry))
        size += weights[index]
    if bundle:
        yield bundle


def name_of(bundle: list[Piece], relative_path: str) -> str:
    """Return the name of a bundle: its first file and how many more, or which part."""
    first = bundle[0]
    if not first.is_whole:
        return f"{relative_path}[{first.part}/{first.parts}]"
    return relative_path if len(bundle) == 1 else f"{relative_path}+{len(bundle) - 1}"
