"""Defines an environment in the form that messages carry: complete, checked, every file named by a digest of
its content.

Drivers and workers make it (``resolve``); the daemon keys workers by it and prepares it in a child process
(``prepare``); each of its workers enters it (``enter``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from skate._base import descriptors

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


#: The exit code of a preparing process that must give up; the last line of its output says why.
REFUSED = 3


class Files(msgspec.Struct, frozen=True):
    """Describes a file or folder of the user that is copied."""

    #: "dir", "file", "zip" (its content is copied) or "wheel" (it is installed).
    kind: str
    path: str
    #: The digest of the content without excluded files.
    digest: str
    #: The name of the copy, by which workers import it. Empty: the content itself is the folder.
    name: str = ""
    #: The patterns of excluded files.
    excludes: list[str] = []


class Packages(msgspec.Struct, frozen=True):
    """Describes the packages that pip or uv installs."""

    tool: str
    #: Lines of a requirements file; paths in them are absolute.
    requirements: list[str]
    #: More arguments of ``install``.
    options: list[str]
    #: Whether ``check`` runs after the installation.
    check: bool
    #: The version of the tool itself, such as "==24.0". Empty: the installed one.
    version: str
    #: The digest of the local files among the requirements.
    digest: str


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """Describes a complete environment."""

    env_vars: dict[str, str] = {}
    working_dir: Files | None = None
    py_modules: list[Files] = []
    packages: Packages | None = None
    #: The setup hook, which runs first in each worker: "module.function", or a pickled function.
    hook: str = ""
    hook_code: bytes = b""
    #: The time limit of the preparation (seconds); 0: no limit.
    timeout_s: float = 600.0
    #: Whether the job's environment is prepared as soon as the job starts.
    eager: bool = True
    #: The ``runtime_env`` as the user wrote it, to show to users.
    shown: dict[str, Any] = {}

    @property
    def needs_preparation(self) -> bool:
        """Tell whether files must be copied or packages installed before a worker can start."""
        return self.working_dir is not None or bool(self.py_modules) or self.packages is not None

    def encode(self) -> bytes:
        """Return the environment as JSON."""
        return _encode(self)

    def key(self) -> bytes:
        """Return 16 bytes that are equal for environments that workers cannot tell apart.

        The origin of the files and the time limit of their copying are no part of the key.
        """
        hashlib = descriptors.load("hashlib")  # the import takes 10 ms, and few programs need it
        folder = self.working_dir
        content = (
            sorted(self.env_vars.items()),
            (folder.kind, folder.digest) if folder is not None else None,
            [(one.kind, one.name, one.digest) for one in self.py_modules],
            self.packages,
            self.hook,
            self.hook_code,
        )
        digest: bytes = hashlib.sha256(_encode(content)).digest()
        return digest[:16]


class Prepared(msgspec.Struct, frozen=True):
    """Holds the results of a preparation."""

    #: The copy of ``working_dir``; empty: it has none.
    working_dir: str = ""
    #: Folders to import from: copies of ``py_modules``.
    paths: list[str] = []
    #: The virtual environment with the packages; empty: none was needed.
    venv: str = ""


class Request(msgspec.Struct, frozen=True):
    """Holds the order of the daemon to the preparing process."""

    environment: Environment
    #: The folder of copies and installations, by content.
    folder: str
    #: The file for the result: Prepared as JSON.
    result: str
    #: The variables of the tools: those of the job.
    variables: dict[str, str]
    cwd: str


def expand(variables: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Return variables with each ``${NAME}`` replaced by its value in the job's environment, or "".

    Example:
        >>> expand({"PATH": "/my/bin:${PATH}"}, {"PATH": "/bin"})
        {'PATH': '/my/bin:/bin'}
    """
    return {
        name: _REFERENCE.sub(lambda found: present.get(found[1], ""), value)
        for name, value in variables.items()
    }


def site_packages(venv: str) -> str:
    """Return the folder of a virtual environment's packages."""
    return f"{venv}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Environment)

NOTHING = Environment()


def decode(data: bytes | str) -> Environment:
    """Return the environment that ``encode`` wrote; no bytes stand for an empty one."""
    return _decoder.decode(data) if data else NOTHING
