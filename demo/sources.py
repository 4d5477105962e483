"""Pictures for a user who names no folder: GIMP's manual, or what scikit-image ships."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from demo import pictures
from demo.errors import DemoError

PACKAGE = "gimp-help-en"
#: Seconds; a mirror that says nothing for so long will not say anything.
APT_TIMEOUT = 600


class _UnavailableError(Exception):
    """This source has no pictures for us. The message is one line that says why."""


def default_folder(say: Callable[[str], None]) -> Path:
    """Return a folder with pictures, fetched at the first use. `say` hears of every fallback, and why."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skate-demo"
    folder = cache / PACKAGE
    if folder.is_dir():
        return folder
    try:
        _fetch_gimp_help(cache, folder, say)
        return folder
    except _UnavailableError as error:
        say(f"No pictures from Debian's package {PACKAGE}: {error}; trying those that scikit-image ships.")
    try:
        return _scikit_image()
    except _UnavailableError as error:
        raise DemoError(f"{error}: name your own pictures with --folder DIR") from error


def _fetch_gimp_help(cache: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Unpack the manual's pictures into `folder`, in one step; nothing is installed."""
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise _UnavailableError(f"{program} is not on this machine")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as name:
            work = Path(name)
            say(f"Fetching Debian's package {PACKAGE} (50 MB, this once) into {cache}")
            _download(work, say)
            [archive] = work.glob("*.deb")
            _run(["dpkg", "-x", archive.name, "unpacked"], work)
            found = pictures.find(work / "unpacked")
            Path(os.path.commonpath(found)).rename(folder)
    except OSError as error:
        raise _UnavailableError(f"cannot write to {cache} ({error.strerror or error})") from error
    except DemoError as error:
        raise _UnavailableError("the package holds no pictures") from error


def _download(work: Path, say: Callable[[str], None]) -> None:
    try:
        _run(["apt-get", "-q", "download", PACKAGE], work)
    except _UnavailableError as error:
        if os.geteuid() != 0:
            raise _UnavailableError(f"{error} (`sudo apt-get update` may help)") from error
        say(f"{error}; asking apt-get for fresh package lists and trying again.")
        _run(["apt-get", "-q", "update"], work)
        _run(["apt-get", "-q", "download", PACKAGE], work)


def _run(command: list[str], work: Path) -> None:
    """Run it in `work`; raise _UnavailableError with the last line it wrote if it fails."""
    shown = " ".join(command[:3])
    try:
        subprocess.run(
            command,
            cwd=work,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=APT_TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        last = (error.stdout.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise _UnavailableError(f"`{shown}` failed: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise _UnavailableError(f"`{shown}` did not end within {APT_TIMEOUT} s") from error


def _scikit_image() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise _UnavailableError("scikit-image is not installed either")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    if not folder.is_dir():
        raise _UnavailableError(f"this scikit-image has no folder {folder}")
    return folder
