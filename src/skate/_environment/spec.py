"""An environment as it travels: complete, checked, every file named by a digest of its content.

Drivers and workers make it (``resolve``), the daemon keys workers by it and has it prepared
(``prepare``), each worker of it enters it (``enter``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from skate._base import descriptors

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


#: Exit code of the process that prepares: it cannot be done, and the last line of the output says why.
REFUSED = 3


class Files(msgspec.Struct, frozen=True):
    """A file or folder of the user's, to be copied."""

    #: "dir", "file", "zip" (its content is meant) or "wheel" (to be installed).
    kind: str
    path: str
    #: Of the content, what is excluded left out.
    digest: str
    #: Of the copy: workers import it so. Empty: the content itself is the folder.
    name: str = ""
    #: Patterns of what was left out.
    excludes: list[str] = []


class Packages(msgspec.Struct, frozen=True):
    """What pip or uv is to install."""

    tool: str
    #: Lines of a requirements file; paths in them are absolute.
    requirements: list[str]
    #: More arguments of ``install``.
    options: list[str]
    #: Run ``check`` when everything is installed.
    check: bool
    #: Of the tool itself: "==24.0". Empty: the one that there is.
    version: str
    #: Digest of the local files among the requirements.
    digest: str


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """See the module's text."""

    env_vars: dict[str, str] = {}
    working_dir: Files | None = None
    py_modules: list[Files] = []
    packages: Packages | None = None
    #: Run in each worker before anything else: "module.function", or a pickled one.
    hook: str = ""
    hook_code: bytes = b""
    #: How long the preparation may take; 0: without limit.
    timeout_s: float = 600.0
    #: Prepare the job's as soon as it starts.
    eager: bool = True
    #: As the user wrote it, for the user.
    shown: dict[str, Any] = {}

    @property
    def needs_preparation(self) -> bool:
        """Whether files must be copied or packages installed before a worker can start."""
        return self.working_dir is not None or bool(self.py_modules) or self.packages is not None

    def encode(self) -> bytes:
        """Return it as JSON."""
        return _encode(self)

    def key(self) -> bytes:
        """Return 16 bytes that are equal for environments that workers cannot tell apart.

        Where the files came from and how long their copying may take is no part of it.
        """
        hashlib = descriptors.load("hashlib")  # here: it takes 10 ms, and few programs have environments
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
    """What the preparation of an environment made."""

    #: The copy of ``working_dir``; empty: it has none.
    working_dir: str = ""
    #: Folders to import from: copies of ``py_modules``.
    paths: list[str] = []
    #: The virtual environment with the packages; empty: none was needed.
    venv: str = ""


class Request(msgspec.Struct, frozen=True):
    """What the daemon gives the process that prepares."""

    environment: Environment
    #: Where copies and installations are kept, by content.
    folder: str
    #: Where to write what was made: Prepared as JSON.
    result: str
    #: Variables for the tools: those of the job.
    variables: dict[str, str]
    cwd: str


def expand(variables: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Return variables with each ``${NAME}`` replaced by what the job's environment has there, or "".

    Example:
        >>> expand({"PATH": "/my/bin:${PATH}"}, {"PATH": "/bin"})
        {'PATH': '/my/bin:/bin'}
    """
    return {
        name: _REFERENCE.sub(lambda found: present.get(found[1], ""), value)
        for name, value in variables.items()
    }


def site_packages(venv: str) -> str:
    """Return where a virtual environment has its packages."""
    return f"{venv}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Environment)

NOTHING = Environment()


def decode(data: bytes | str) -> Environment:
    """Return the environment that ``encode`` wrote; of no bytes the empty one."""
    return _decoder.decode(data) if data else NOTHING
