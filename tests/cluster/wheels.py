"""Python packages made on the spot, so that tests of pip need no network."""

from __future__ import annotations

import zipfile
from pathlib import Path

#: A build backend that says when it begins, and goes on when it may.
_BACKEND = """
import os, sys, time
sys.path.insert(0, {tests!r})
from cluster.wheels import wheel

def build_wheel(folder, config_settings=None, metadata_directory=None):
    open(os.path.join({gate!r}, f"begun-{{os.getpid()}}"), "w").close()
    while not os.path.exists(os.path.join({gate!r}, "go")):
        time.sleep(0.01)
    return os.path.basename(wheel(folder, {name!r}, "1.0"))
"""


def wheel(folder: str | Path, name: str, version: str, *, requires: str = "") -> str:
    """Write a wheel whose module says ``VERSION``; return its path."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = Path(folder, f"{name}-{version}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return str(path)


def gated(folder: Path, name: str) -> tuple[str, Path]:
    """Return the path of a package that is not built before a file ``go`` is in the other folder; there it
    leaves a file ``begun-...`` each time it is asked to."""
    source, gate = folder / f"{name}-source", folder / f"{name}-gate"
    source.mkdir()
    gate.mkdir()
    (source / "pyproject.toml").write_text(
        f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
    )
    tests = str(Path(__file__).resolve().parent.parent)
    (source / "backend.py").write_text(_BACKEND.format(tests=tests, gate=str(gate), name=name))
    return str(source), gate
