"""Files of Debian packages: downloaded by apt-get and unpacked into a cache, never installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

#: Seconds; a mirror that says nothing for so long will not say anything.
APT_TIMEOUT = 600


class UnavailableError(Exception):
    """The files cannot be had. The message is one line that says why."""


def cache() -> Path:
    """Return the folder for what is fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skate-demo"


def fetch(package: str, size: str, say: Callable[[str], None]) -> Path:
    """Return a folder with a package's files, fetched at the first use; raise UnavailableError.

    `size` is of the download, for people; `say` hears of it.
    """
    folder = cache() / package
    if folder.is_dir():
        return folder
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not on this machine")
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as name:
            work = Path(name)
            say(f"Fetching Debian's package {package} ({size}, this once) into {cache()}")
            _download(package, work, say)
            [archive] = work.glob("*.deb")
            _run(["dpkg", "-x", archive.name, "unpacked"], work)
            # In one step: a folder that is there is complete.
            (work / "unpacked").rename(folder)
    except OSError as error:
        raise UnavailableError(f"cannot write to {cache()} ({error.strerror or error})") from error
    return folder


def _download(package: str, work: Path, say: Callable[[str], None]) -> None:
    try:
        _run(["apt-get", "-q", "download", package], work)
    except UnavailableError as error:
        if os.geteuid() != 0:
            raise UnavailableError(f"{error} (`sudo apt-get update` may help)") from error
        say(f"{error}; asking apt-get for fresh package lists and trying again.")
        _run(["apt-get", "-q", "update"], work)
        _run(["apt-get", "-q", "download", package], work)


def _run(command: list[str], work: Path) -> None:
    """Run it in `work`; raise UnavailableError with the last line it wrote if it fails."""
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
        raise UnavailableError(f"`{shown}` failed: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"`{shown}` did not end within {APT_TIMEOUT} s") from error
