"""Turns a user's ``runtime_env`` into an environment for messages: resolves paths and digests content.

Runs where ``runtime_env`` is used first: in ``init``, or at the first ``.remote()`` of a function.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from skate._base.process import absolute, working_folder
from skate._environment import fields, tree
from skate._environment.spec import NOTHING, Environment, Files, Packages, decode
from skate._serialize.values import dump_code

#: The most bytes of an encoded environment, as messages carry it.
_MAX_BYTES = 256 * 1024
#: The largest folder, as in Ray (megabytes): a larger one is usually the wrong folder.
_MAX_FILES_MB = 500
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")
#: Lines of requirements whose argument may be a path.
_PATH_OPTIONS = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-f", "--find-links")

#: For each folder and its excludes: the last look at its files, and their digest then.
_digests: dict[tuple[str, tuple[str, ...]], tuple[list[tree.Entry], str]] = {}


def resolve(given: Mapping[str, Any] | None, parent: bytes) -> bytes:
    """Return the environment of a task, actor or job.

    Args:
        given: its ``runtime_env``.
        parent: the environment of the process that starts it; a job has none.

    Returns:
        The environment, encoded; ``parent`` itself if nothing was given.

    Raises:
        TypeError, ValueError: it is not valid, or names a file that does not exist.
    """
    above = decode(parent)
    fields.check(given)
    wanted = {name: value for name, value in (given or {}).items() if value is not None and name[:1] != "_"}
    if above.hook_code and wanted.get(fields.HOOK) == above.shown[fields.HOOK]:
        # The user passed on the value of get_runtime_context().runtime_env: the name of a function that was
        # pickled.
        del wanted[fields.HOOK]
    if not wanted:
        return parent
    excludes = [*tree.default_excludes(), *wanted.get("excludes", ())]
    env_vars = {**above.env_vars, **wanted.get("env_vars", {})}
    working_dir = above.working_dir
    if "working_dir" in wanted:
        working_dir = _working_dir(os.fspath(wanted["working_dir"]), excludes)
    modules = above.py_modules
    if "py_modules" in wanted:
        modules = [_module(one, index, excludes) for index, one in enumerate(wanted["py_modules"])]
    packages = above.packages
    for tool in ("pip", "uv"):
        if wanted.get(tool) is not None:
            packages = _packages(tool, wanted[tool])
    hook, code = above.hook, above.hook_code
    if fields.HOOK in wanted:
        hook, code = _hook(wanted[fields.HOOK])
    timeout, eager = above.timeout_s, above.eager
    if fields.CONFIG in wanted:
        config = wanted[fields.CONFIG]
        timeout = max(0.0, float(config.get("setup_timeout_seconds", fields.DEFAULT_TIMEOUT_S)))
        eager = config.get("eager_install", True)
    made = Environment(
        env_vars=dict(sorted(env_vars.items())), working_dir=working_dir, py_modules=modules,
        packages=packages, hook=hook, hook_code=code, timeout_s=timeout, eager=eager,
        shown=fields.merge(above.shown, _shown(wanted)),
    )  # fmt: skip
    if made == NOTHING:
        return b""
    encoded = made.encode()
    if len(encoded) > _MAX_BYTES:
        raise ValueError(
            f"runtime_env takes {len(encoded)} bytes in all; the limit is {_MAX_BYTES}. "
            f"Its largest field is {max(made.shown, key=lambda name: len(repr(made.shown[name])))!r}. Put it "
            "into a file of working_dir, or a function of the setup hook into a module."
        )
    return encoded


def _shown(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of ``get_runtime_context().runtime_env``, in a form that JSON can hold."""
    shown: dict[str, Any] = {}
    for name, value in wanted.items():
        if name == fields.HOOK and not isinstance(value, str):
            shown[name] = f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        elif name == "py_modules":
            shown[name] = [
                _module_path(one) if isinstance(one, ModuleType) else os.fspath(one) for one in value
            ]
        elif name in ("env_vars", fields.CONFIG):
            shown[name] = dict(value)
        elif hasattr(value, "__fspath__"):
            shown[name] = os.fspath(value)
        else:
            shown[name] = list(value) if isinstance(value, tuple) else value
    return shown


# ---------------------------------------------------------------------- files


def _working_dir(path: str, excludes: list[str]) -> Files:
    name = "runtime_env['working_dir']"
    full = absolute(os.path.expanduser(path))
    if os.path.isdir(full):
        return Files("dir", full, _folder_digest(name, full, excludes), excludes=excludes)
    if not os.path.exists(full):
        raise ValueError(f"{name}: {path} is not a valid path: there is no such folder ({full})")
    if not full.endswith(".zip"):
        raise ValueError(f"{name} takes a folder or a .zip file, got the file {full}")
    return Files("zip", full, tree.file_digest(full))


def _module(one: Any, index: int, excludes: list[str]) -> Files:
    name = f"runtime_env['py_modules'][{index}]"
    path = _module_path(one) if isinstance(one, ModuleType) else os.fspath(one)
    full = absolute(os.path.expanduser(path))
    if not os.path.exists(full):
        raise ValueError(f"{name}: {path} is not a valid path: there is no such file or folder ({full})")
    if os.path.isdir(full):
        digest = _folder_digest(name, full, excludes)
        return Files("dir", full, digest, os.path.basename(full), excludes)
    if full.endswith(".py"):
        return Files("file", full, tree.file_digest(full), os.path.basename(full))
    kind = {".whl": "wheel", ".zip": "zip"}.get(os.path.splitext(full)[1])
    if kind is None:
        raise ValueError(f"{name} takes a package's folder, a .py, .zip or .whl file, got {full}")
    # An installer reads the platform off the name of a wheel; names of other files do not matter.
    return Files(kind, full, tree.file_digest(full), os.path.basename(full) if kind == "wheel" else "")


def _module_path(module: ModuleType) -> str:
    """Return the folder of a package, or the file of a plain module."""
    places = list(getattr(module, "__path__", ()))
    if len(places) == 1:
        return str(places[0])
    if not places and getattr(module, "__file__", None):
        return str(module.__file__)
    raise ValueError(
        f"runtime_env['py_modules'] has the module {module.__name__}, which has no folder or file of its "
        "own; give the path of the package or file instead"
    )


def _folder_digest(name: str, path: str, excludes: list[str]) -> str:
    """Return the digest of a folder; unchanged files are not read again."""
    try:
        entries = list(tree.walk(path, excludes))
        size = sum(entry.size for entry in entries)
        if size > _MAX_FILES_MB << 20:
            largest = sorted(entries, key=lambda entry: -entry.size)[:3]
            raise ValueError(
                f"{name} is {path} with {size >> 20} MB in {len(entries)} files; the limit is "
                f"{_MAX_FILES_MB} MB. Largest: "
                f"{', '.join(f'{entry.path} ({entry.size >> 20} MB)' for entry in largest)}. Leave data out "
                "with runtime_env['excludes'] or a .gitignore file, and let tasks read it by its path."
            )
        where = (path, tuple(excludes))
        known = _digests.get(where)
        if known is not None and known[0] == entries:
            return known[1]
        digest = tree.digest_of(path, entries)
    except OSError as error:
        raise ValueError(
            f"{name} is {path}, and it cannot be read: {error}. Leave out files that workers do not need "
            "with runtime_env['excludes']."
        ) from None
    _digests[where] = (entries, digest)
    return digest


# ---------------------------------------------------------------------- packages and hook


def _packages(tool: str, given: Any) -> Packages | None:
    name = f"runtime_env[{tool!r}]"
    options: list[str] = [] if tool == "pip" else ["--no-cache"]
    check, version, listed = False, "", given
    if isinstance(given, Mapping):
        listed = given["packages"]
        check = given.get(f"{tool}_check", False)
        version = given.get(f"{tool}_version") or ""
        key = "uv_pip_install_options" if tool == "uv" else "pip_install_options"
        if given.get(key) is not None:
            options = list(given[key])
    base = working_folder()
    if isinstance(listed, str) or hasattr(listed, "__fspath__"):
        path = absolute(os.path.expanduser(os.fspath(listed)))
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise ValueError(
                f"{name} is {listed!r}, which should be a requirements file, and it cannot be read: {error}. "
                f"Write a single package as a list: [{str(listed)!r}]"
            ) from None
        base = os.path.dirname(path)
    else:
        lines = list(listed)
    content = hashlib.sha256()
    requirements = [_requirement(line, base, content) for line in lines]
    requirements = [line for line in requirements if line and not line.startswith("#")]
    if not requirements:
        return None
    return Packages(tool, requirements, options, check, version, content.hexdigest()[:32])


def _requirement(line: str, base: str, content: hashlib._Hash) -> str:
    """Return a line of a requirements file with its path, if it has one, absolute and digested."""
    line = line.strip()
    option = next((one for one in _PATH_OPTIONS if line.startswith((one + " ", one + "="))), None)
    head, path = ("", line) if option is None else (option + " ", line[len(option) + 1 :].strip())
    looks_local = option is not None or os.sep in path or path.endswith(_ARCHIVES)
    full = os.path.normpath(os.path.join(base, os.path.expanduser(path)))
    if not path or not looks_local or "://" in path or not os.path.exists(full):
        return line
    if os.path.isdir(full):
        entries = list(tree.walk(full, tree.default_excludes()))
        content.update(tree.digest_of(full, entries).encode())
    else:
        content.update(tree.file_digest(full).encode())
    return head + full


def _hook(hook: Any) -> tuple[str, bytes]:
    if isinstance(hook, str):
        return hook, b""
    try:
        blob, refs = dump_code(hook)
    except Exception as error:
        raise TypeError(f"runtime_env[{fields.HOOK!r}] is {hook!r}, which cannot be sent: {error}") from None
    if refs:
        raise ValueError(
            f"runtime_env[{fields.HOOK!r}] is {hook!r}, which holds ObjectRefs: it runs before a worker "
            "can fetch objects. Let it read a file, or pass the refs to the tasks."
        )
    return getattr(hook, "__qualname__", repr(hook)), blob
