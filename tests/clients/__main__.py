"""Installs each library into an environment of its own, runs it under ``skate run``, and prints a table.

python -m tests.clients                         # all
python -m tests.clients pymoo stumpy            # these
python -m tests.clients --keep                  # without installing again what is installed
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path
from typing import NamedTuple

from .table import CLIENTS, Client

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
#: Seconds until a library's run counts as hung.
LIMIT = 1200


class Outcome(NamedTuple):
    """How a library's run went."""

    name: str
    version: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    remarks: str


def main() -> int:
    """Run the libraries that are named; return 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients")
    parser.add_argument("names", nargs="*", help="libraries (default: all)")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-clients", help="where they are")
    parser.add_argument("--keep", action="store_true", help="use what is installed there already")
    given = parser.parse_args()
    unknown = set(given.names) - {client.name for client in CLIENTS}
    if unknown:
        parser.error(f"there is no client {', '.join(sorted(unknown))}")
    outcomes = []
    for client in CLIENTS:
        if not given.names or client.name in given.names:
            print(f"== {client.name}", flush=True)
            outcomes.append(_run(client, given.environments.resolve() / client.name, given.keep))
    print(_table(outcomes))
    return 1 if any(one.failed for one in outcomes) else 0


# ---------------------------------------------------------------------- installing


def _install(client: Client, folder: Path, keep: bool) -> Path:
    """Make the environment; return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True, symlinks=True)
    elif keep:
        return python
    _pip(python, "install", *client.requirements, "pytest")
    _pip(python, "install", "-e", str(ROOT))
    return python


def _sources(client: Client, folder: Path, version: str) -> Path:
    """Return the unpacked source distribution of the version that is installed."""
    unpacked = folder / "sources" / version
    if not unpacked.exists():
        files = folder / "sources" / "files"
        shutil.rmtree(files, ignore_errors=True)
        _pip(
            folder / "bin" / "python", "download", "--no-deps", "--no-binary", client.sources, "--dest", str(files),
            f"{client.sources}=={version}",
        )  # fmt: skip
        (archive,) = files.glob("*.tar.gz")
        part = folder / "sources" / "part"
        shutil.rmtree(part, ignore_errors=True)
        with tarfile.open(archive) as file:
            file.extractall(part, filter="data") if sys.version_info >= (3, 12) else file.extractall(part)
        (inside,) = part.iterdir()
        inside.rename(unpacked)
    return unpacked


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run(
        [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True
    )


def _version(python: Path, client: Client) -> str:
    """Return the version that is installed."""
    name = re.split(r"[<>=~!;\[ ]", client.requirements[0])[0]
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run(
        [str(python), "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


# ---------------------------------------------------------------------- running


def _run(client: Client, folder: Path, keep: bool) -> Outcome:
    begun = time.monotonic()
    try:
        python = _install(client, folder, keep)
        version = _version(python, client)
    except subprocess.CalledProcessError as error:
        return Outcome(client.name, "", 0, 1, 0, time.monotonic() - begun, f"cannot be installed: {error}")
    begun = time.monotonic()
    passed = failed = skipped = 0
    remarks: list[str] = [
        f"left out: {test.rpartition('::')[2]} ({reason})" for test, reason in client.left_out
    ]
    for name in client.programs:
        done = _skate(python, [str(PROGRAMS / name)], folder, client)
        good = done.returncode == 0
        passed, failed = passed + good, failed + (not good)
        if not good:
            remarks.append(f"{name}: {_last(done)}")
    suites: list[tuple[Path, list[str]]] = []
    if client.tests:
        suites.append((_sources(client, folder, version), list(client.tests)))
    if client.installed:
        suites.append((folder, ["--pyargs", *client.installed]))
    for where, arguments in suites:
        left_out = [part for test, _ in client.left_out for part in ("--deselect", test)]
        options = ["-q", "-rs", "-p", "no:cacheprovider", *arguments, *left_out]
        done = _skate(python, ["-m", "pytest", *options], where, client)
        counts = {
            what: int(number)
            for number, what in re.findall(r"(\d+) (passed|failed|skipped|error)", _tail(done))
        }
        passed += counts.get("passed", 0)
        skipped += counts.get("skipped", 0)
        failed += counts.get("failed", 0) + counts.get("error", 0)
        remarks += [
            line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("SKIPPED")
        ]
        if done.returncode and not counts.get("failed"):
            failed += not counts.get("error")
            remarks.append(_last(done))
        elif done.returncode:
            remarks += [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return Outcome(client.name, version, passed, failed, skipped, time.monotonic() - begun,
                   "; ".join(dict.fromkeys(remarks)))  # fmt: skip


def _skate(
    python: Path, arguments: list[str], folder: Path, client: Client
) -> subprocess.CompletedProcess[str]:
    """Run ``skate run ARGUMENTS``; say what it printed if it fails."""
    command = [str(python), "-m", "skate", "run", *arguments]
    variables = {**os.environ, **dict(client.variables)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        done = subprocess.CompletedProcess(command, 124, f"{text}\nno end after {LIMIT} s", "")
    if done.returncode:
        print("\n".join(done.stdout.splitlines()[-60:]), flush=True)
    return done


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line with pytest's counts."""
    return next((line for line in reversed(done.stdout.splitlines()) if re.search(r" in [\d.]+s", line)), "")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line, in which a program says why it ended."""
    return next((line.strip() for line in reversed(done.stdout.splitlines()) if line.strip()), "no output")


def _table(outcomes: list[Outcome]) -> str:
    lines = [
        "| library | version | passed | failed | skipped | seconds | remarks |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for one in outcomes:
        cells = (
            one.name,
            one.version,
            one.passed,
            one.failed,
            one.skipped,
            f"{one.seconds:.0f}",
            one.remarks,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
