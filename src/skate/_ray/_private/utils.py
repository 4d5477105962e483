"""``ray._private.utils``: memory and CPUs of this machine, or of the container around it."""

from __future__ import annotations

from skate._base import memory, process
from skate._ray._missing import missing

__all__ = ["estimate_available_memory", "get_num_cpus", "get_system_memory", "get_used_memory"]


def get_system_memory(memory_limit_filename: str = "", memory_limit_filename_v2: str = "") -> int:
    """Return how many bytes of memory this machine, or the container around it, has.

    Args:
        memory_limit_filename, memory_limit_filename_v2: taken for Ray's sake; the limit is found by itself.
    """
    return process.memory_bytes()


def get_used_memory() -> int:
    """Return how many bytes of it are in use, without what the kernel keeps of files."""
    return memory.of_machine().used


def estimate_available_memory() -> int:
    """Return how many bytes are free."""
    found = memory.of_machine()
    return found.total - found.used


def get_num_cpus(override_docker_cpu_warning: bool = False, truncate: bool = True) -> int:
    """Return how many CPUs this process may use, by its container too.

    Args:
        override_docker_cpu_warning, truncate: taken for Ray's sake; there is no warning, and no half CPU.
    """
    return process.cpu_count()


def __getattr__(name: str) -> object:
    return missing(__name__, name)
