"""Prepares one environment in a process that the daemon starts: copies files, runs pip or uv.

The results lie in the session's folder by the digest of their content, and every environment with the same
content uses them. An entry is built under a lock and is complete when its mark exists; an unfinished entry is
built anew. The output of the process is its log: if it fails, the user sees the end of that.

Descriptor 0 is a pipe that the daemon holds: when the pipe closes, this process and its tools end.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable

import msgspec

from skate._base.process import native
from skate._environment import tree
from skate._environment.spec import REFUSED, Files, Packages, Prepared, Request, site_packages

#: Stands for the folder of ``working_dir`` in requirements, as in Ray.
_WORKING_DIR = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"


class SetupError(Exception):
    """The environment cannot be prepared; the text is for the user."""


def main(request_path: str) -> None:
    """Prepare the environment of a request; exit with REFUSED when the log's last line says why not."""
    threading.Thread(target=_end_with_daemon, daemon=True).start()
    with open(request_path, "rb") as file:
        request = msgspec.json.decode(file.read(), type=Request)
    try:
        made = prepare(request)
    except (SetupError, OSError, zipfile.BadZipFile) as error:
        print(str(error).replace("\n", " "), flush=True)
        sys.exit(REFUSED)
    draft = request.result + ".draft"
    with open(draft, "wb") as file:
        file.write(msgspec.json.encode(made))
    os.replace(draft, request.result)


def _end_with_daemon() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def prepare(request: Request) -> Prepared:
    """Make all parts of the environment that the folder does not have yet.

    Raises:
        SetupError: a file changed meanwhile, or a tool failed.
        OSError: something cannot be read or written.
    """
    environment, cache = request.environment, Cache(request.folder)
    working_dir = ""
    if environment.working_dir is not None:
        working_dir = _files(cache, environment.working_dir, request)
    paths = [_files(cache, one, request) for one in environment.py_modules]
    venv = ""
    if environment.packages is not None:
        venv = _venv(cache, environment.packages, request, working_dir)
    return Prepared(working_dir, list(dict.fromkeys(paths)), venv)


class Cache:
    """Holds folders by content; the first process that needs a folder builds it, once."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def entry(self, name: str, build: Callable[[str], None]) -> str:
        """Return the folder of this name; if it is not there, have ``build`` make and fill it.

        If ``build`` raises, the folder is removed.
        """
        path = os.path.join(self._folder, name)
        mark = path + ".complete"
        lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(mark):
                shutil.rmtree(path, ignore_errors=True)
                try:
                    build(path)
                except BaseException:
                    shutil.rmtree(path, ignore_errors=True)
                    raise
                os.close(os.open(mark, os.O_WRONLY | os.O_CREAT, 0o600))
        finally:
            os.close(lock)
        return path


# ---------------------------------------------------------------------- files


def _files(cache: Cache, files: Files, request: Request) -> str:
    """Return the folder with the copy; for a module, the folder from which it can be imported."""
    name = hashlib.sha256(f"{files.kind} {files.name} {files.digest}".encode()).hexdigest()[:24]

    def build(path: str) -> None:
        target = os.path.join(path, files.name) if files.name else path
        if files.kind == "dir":
            _same(files, tree.copy(files.path, list(tree.walk(files.path, files.excludes)), target))
            return
        os.makedirs(path)
        if files.kind == "wheel":
            argv = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
                    "--target", path, files.path]  # fmt: skip
            _run(argv, request, "pip install")
        elif files.kind == "zip":
            with zipfile.ZipFile(files.path) as archive:
                archive.extractall(path)  # it puts paths that lead outside into the folder
        else:
            shutil.copyfile(files.path, target)
        _same(files, tree.file_digest(files.path))

    return cache.entry(name, build)


def _same(files: Files, digest: str) -> None:
    if digest != files.digest:
        raise SetupError(
            f"{files.path} changed between the call that named it in runtime_env and its copying. Call "
            "again when no process writes there, and list files that change often (logs, results) in "
            "runtime_env['excludes']."
        )


# ---------------------------------------------------------------------- packages


def _venv(cache: Cache, packages: Packages, request: Request, working_dir: str) -> str:
    variables = request.environment.env_vars
    content = msgspec.json.encode((packages, sorted(variables.items()), sys.executable))
    if any(_WORKING_DIR in line for line in packages.requirements):
        content += working_dir.encode()
    name = f"{packages.tool}-{hashlib.sha256(content).hexdigest()[:24]}"
    return cache.entry(name, lambda path: _install(path, packages, request, working_dir))


def _install(path: str, packages: Packages, request: Request, working_dir: str) -> None:
    """Build a virtual environment that also sees the packages of this Python, and install into it."""
    import venv

    venv.EnvBuilder(system_site_packages=True, symlinks=True, with_pip=False).create(path)
    # This Python may itself belong to a virtual environment, whose packages "system" does not include.
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    with open(os.path.join(site_packages(path), "_skate_parent.pth"), "w", encoding="utf-8") as file:
        file.writelines(f"import site; site.addsitedir({folder!r})\n" for folder in folders)
    python = os.path.join(path, "bin", "python")
    if importlib.util.find_spec("pip") is None:
        _run([python, "-m", "ensurepip"], request, "ensurepip")
    listed = os.path.join(path, "requirements.txt")
    with open(listed, "w", encoding="utf-8") as file:
        file.writelines(f"{line.replace(_WORKING_DIR, working_dir)}\n" for line in packages.requirements)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if packages.tool == "uv":
        _run_uv(pip, python, listed, packages, request)
        return
    if packages.version:
        _run([*pip, "install", f"pip{_version(packages)}"], request, "the installation of pip")
    _run([*pip, "install", "-r", listed, *packages.options], request, "pip install")
    if packages.check:
        _run([*pip, "check"], request, "pip check")


def _run_uv(pip: list[str], python: str, listed: str, packages: Packages, request: Request) -> None:
    found = shutil.which("uv", path=request.variables.get("PATH"))
    # An uv that is an installed package is started by its own Python: older versions find their program only
    # so.
    uv = [found] if found else [sys.executable, "-m", "uv"]
    if packages.version or (found is None and importlib.util.find_spec("uv") is None):
        _run([*pip, "install", f"uv{_version(packages)}"], request, "the installation of uv")
        uv = [python, "-m", "uv"]
    _run([*uv, "pip", "install", "--python", python, "-r", listed, *packages.options], request,
         "uv pip install")  # fmt: skip
    if packages.check:
        _run([*uv, "pip", "check", "--python", python], request, "uv pip check")


def _version(packages: Packages) -> str:
    """Return the version in the form of a requirement."""
    version = packages.version
    return version if not version or version[0] in "=<>!~" else f"=={version}"


def _run(argv: list[str], request: Request, what: str) -> None:
    """Run a tool; its output goes to the log."""
    print(f"$ {shlex.join(argv)}", flush=True)
    variables = {native(name): native(value) for name, value in request.variables.items()}
    done = subprocess.run(
        argv, env=variables, cwd=native(request.cwd) or None, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise SetupError(f"{what} failed with {how}")
