"""The interpreters of the measured systems, and the facts of the machine that belong beside every figure."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import session
from benchmarks.child import MODULES

RAY_VENV = Path(__file__).resolve().parent / ".venv-ray"
RAY_REQUIREMENTS = ("ray", "numpy", "psutil", "joblib")
PROBE_TIMEOUT_S = 120
PROBE = """
import importlib, platform, sys
module = importlib.import_module(sys.argv[1]) if sys.argv[1] else None
import numpy
print(getattr(module, "__version__", "?") if module else "", platform.python_version())
"""


@dataclass(frozen=True)
class Interpreter:
    """What runs a system. `error` says why it cannot be measured; the versions are empty then."""

    executable: str
    version: str
    python: str
    error: str = ""


def ray_python() -> str:
    """The interpreter of a virtual environment with Ray from PyPI; the first call makes it (minutes)."""
    return made_python(RAY_VENV, RAY_REQUIREMENTS, "--ray-python PATH")


def made_python(folder: Path, requirements: Sequence[str], option: str) -> str:
    """The interpreter of a virtual environment with packages from PyPI; the first call makes it.

    `option` names an interpreter instead: the advice where pip fails.
    """
    python = folder / "bin" / "python"
    complete = folder / "complete"
    wanted = " ".join(requirements)
    if not complete.exists() or complete.read_text() != wanted:
        print(f"installing {', '.join(requirements)} into {folder.name}, once", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        try:
            subprocess.run(pip, check=True, stdout=sys.stderr)
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                f"pip could not install {', '.join(requirements)} for Python {platform.python_version()} "
                f"(see above); name an interpreter that has it: {option}"
            ) from error
        complete.write_text(wanted)
    return str(python)


def probe(python: str, system: str) -> Interpreter:
    """Import the system once, with numpy, and ask for versions; also leaves its byte code compiled."""
    command = [python, "-c", PROBE, MODULES.get(system, "")]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
            env=session.plain_environment(),
        )
    except subprocess.CalledProcessError as error:
        return Interpreter(python, "", "", (error.stderr.strip().splitlines() or ["it printed nothing"])[-1])
    except (OSError, subprocess.TimeoutExpired) as error:
        return Interpreter(python, "", "", str(error))
    version, python_version = done.stdout.splitlines()[-1].split(" ")
    return Interpreter(python, version, python_version)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict[str, str | int]:
    """CPU model, cores that this process may use, memory in GiB, kernel."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu_model(),
        "cores": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def as_json(interpreters: dict[str, Interpreter]) -> dict[str, dict[str, str]]:
    """Versions and errors; no paths, which say nothing to a reader elsewhere."""
    return {
        system: {"version": it.version, "python": it.python, "error": it.error}
        for system, it in interpreters.items()
    }
