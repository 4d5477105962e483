"""Checks the fields of ``runtime_env``, and merges those of a child with those of its parent.

The checks run where the fields are written, before any file is read or process started. Decisions only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

_INSTALLERS = ("pip", "uv")
#: Fields of Ray's that skate does not support, and what to do instead.
_ABSENT = {
    "conda": "use 'pip' or 'uv', or start the program inside of the conda environment",
    "container": "start the program, or `skate start`, inside of the container",
    "image_uri": "start the program, or `skate start`, inside of the container",
    "nsight": "run the program itself under the profiler",
    "rocprof_sys": "run the program itself under the profiler",
    "java_jars": "skate runs Python only",
    "py_executable": "workers are forked from the program's own Python; use 'pip' or 'uv' for packages",
}
#: Ray's names of the fields for the setup hook and the configuration.
HOOK, CONFIG = "worker_process_setup_hook", "config"
DEFAULT_TIMEOUT_S = 600


def check(given: Any, what: str = "runtime_env") -> None:
    """Raise if a ``runtime_env`` is not valid, as far as the check needs no look at the disk.

    Args:
        given: the user's value; None and an empty one are valid.
        what: the name of the value in messages.

    Raises:
        TypeError: it, or a field, has the wrong type.
        ValueError: a field is unknown, contradicts another one, or is not supported by skate.
    """
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a dict or a RuntimeEnv, but received type {type(given)}: {given!r}")
    for name, value in given.items():
        if value is None or (isinstance(name, str) and name.startswith("_")):
            continue  # names with an underscore are Ray's internal fields
        checker = _CHECKS.get(name)
        if checker is not None:
            checker(f"{what}[{name!r}]", value)
        elif name in _ABSENT:
            raise ValueError(f"{what}[{name!r}] is not supported by skate: {_ABSENT[name]}")
        else:
            raise ValueError(f"{what} has no field {name!r}; it has: {', '.join(sorted(_CHECKS))}")
    if given.get("pip") and given.get("uv"):
        raise ValueError(f"{what} has both 'pip' and 'uv'; choose one of them to install the packages")


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``runtime_env`` of a child with the fields ``child`` whose parent has ``parent``.

    Variables are merged one by one; every other field of the child's replaces the parent's.

    Example:
        >>> merge({"env_vars": {"A": "1", "B": "1"}, "pip": ["a"]}, {"env_vars": {"B": "2"}})
        {'env_vars': {'A': '1', 'B': '2'}, 'pip': ['a']}
    """
    given = {name: value for name, value in child.items() if value is not None}
    merged = {**parent, **given}
    if given.get("env_vars") and parent.get("env_vars"):
        merged["env_vars"] = {**parent["env_vars"], **given["env_vars"]}
    for one, other in (_INSTALLERS, _INSTALLERS[::-1]):
        if one in given and other not in given:
            merged.pop(other, None)
    return merged


def refuse_remote(name: str, path: str) -> None:
    """Raise if a path is the address of a remote file.

    Raises:
        ValueError: the path is such an address.
    """
    scheme, mark, _ = path.partition("://")
    if mark and scheme.isalnum():
        raise ValueError(
            f"{name} is {path!r}: this version of skate takes folders and files of this machine only. "
            "Download it first, and give its path."
        )


# ---------------------------------------------------------------------- one check a field


def _env_vars(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be of type Dict[str, str], got {value!r} ({type(value).__name__})")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(
                f"{name} must be of type Dict[str, str], got {key!r}: {text!r}; write numbers as strings"
            )
        if not key or "=" in key or "\0" in key + text:
            raise ValueError(f"{name} has {key!r}: {text!r}, which cannot be an environment variable")


def _path(name: str, value: Any) -> None:
    if not isinstance(value, str) and not hasattr(value, "__fspath__"):
        raise TypeError(f"{name} takes a path, got {value!r} ({type(value).__name__})")
    if isinstance(value, str):
        if not value:
            raise ValueError(f"{name} is empty; leave it out, or name a folder")
        refuse_remote(name, value)


def _modules(name: str, value: Any) -> None:
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} takes a list of paths and modules, got {value!r} ({type(value).__name__})")
    for index, one in enumerate(value):
        if not isinstance(one, ModuleType):
            _path(f"{name}[{index}]", one)


def _strings(name: str, value: Any) -> None:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} takes a list of strings, got {value!r} ({type(value).__name__})")
    for one in value:
        if not isinstance(one, str):
            raise TypeError(f"{name} takes strings, got {one!r} ({type(one).__name__})")


def _packages(tool: str) -> Callable[[str, Any], None]:
    options = "uv_pip_install_options" if tool == "uv" else "pip_install_options"
    known = {"packages", f"{tool}_check", f"{tool}_version", options}

    def check_packages(name: str, value: Any) -> None:
        if isinstance(value, str) or hasattr(value, "__fspath__"):
            return
        if not isinstance(value, Mapping):
            if not isinstance(value, (list, tuple)):
                raise TypeError(
                    f"{name} must be of type str or List[str], or a dict: a list of requirements, or the "
                    f"path of a requirements file; got {type(value)}: {value!r}"
                )
            _strings(name, value)
            return
        unknown = sorted(str(key) for key in value if key not in known)
        if unknown:
            raise ValueError(f"{name} has no {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
        if value.get("packages") is None:
            raise ValueError(f"{name} as a dict needs 'packages': a list, or the path of a requirements file")
        if not isinstance(value["packages"], str):
            _strings(f"{name}['packages']", value["packages"])
        if not isinstance(value.get(f"{tool}_check", False), bool):
            raise TypeError(f"{name}['{tool}_check'] takes True or False")
        if not isinstance(value.get(f"{tool}_version") or "", str):
            raise TypeError(f"{name}['{tool}_version'] takes a string such as '==24.0'")
        if value.get(options) is not None:
            _strings(f"{name}[{options!r}]", value[options])

    return check_packages


def _hook(name: str, value: Any) -> None:
    if isinstance(value, str):
        # get_runtime_context().runtime_env also names functions within functions.
        parts = value.split(".")
        if len(parts) < 2 or not all(part.isidentifier() or part.startswith("<") for part in parts):
            raise ValueError(f"{name} takes a function or 'module.function', got {value!r}")
    elif not callable(value):
        raise TypeError(f"{name} takes a function or 'module.function', got {value!r}")


def _config(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} takes a dict or a RuntimeEnvConfig, got {value!r} ({type(value).__name__})")
    timeout = value.get("setup_timeout_seconds", DEFAULT_TIMEOUT_S)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{name}['setup_timeout_seconds'] takes seconds as a number, got {timeout!r}")
    if timeout != -1 and not timeout > 0:
        raise ValueError(
            f"{name}['setup_timeout_seconds'] takes seconds above 0, or -1 for no limit; got {timeout}"
        )
    if not isinstance(value.get("eager_install", True), bool):
        raise TypeError(f"{name}['eager_install'] takes True or False")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "env_vars": _env_vars,
    "working_dir": _path,
    "py_modules": _modules,
    "pip": _packages("pip"),
    "uv": _packages("uv"),
    "excludes": _strings,
    HOOK: _hook,
    CONFIG: _config,
}
#: The fields that skate supports, and those of Ray's that it does not.
KNOWN, ABSENT = frozenset(_CHECKS), frozenset(_ABSENT)
