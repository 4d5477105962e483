"""Limits: raised as far as is good, and named when they are met."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest

from skate._base import descriptors


def run(code: str, limit: tuple[int, int]) -> str:
    """Return what code prints that runs with these limits of descriptors."""
    argv = [sys.executable, "-c", f"import os, resource; from skate._base import descriptors; {code}"]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
    )  # fmt: skip
    return done.stdout.strip()


SHOW = "descriptors.raise_limit(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.parametrize("hard", [64, 1024, 4096])
def test_a_low_hard_limit_is_used_whole(hard: int) -> None:
    assert run(SHOW, (min(32, hard), hard)) == f"{hard} {hard}"


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [((1024, 1 << 30), 65_536), ((100_000, 1 << 30), None), ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
     ((1024, resource.RLIM_INFINITY), 65_536), ((1024, 1024), None), ((1024, 20_000), 20_000)],
)  # fmt: skip
def test_the_soft_limit_is_raised_up_to_a_cap(
    limits: tuple[int, int], wanted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to a billion: programs that close every possible descriptor would take minutes."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, value: asked.append(value))
    descriptors.raise_limit()
    assert asked == ([] if wanted is None else [(wanted, limits[1])])


def test_a_sandbox_may_forbid_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, value: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda which: (10, 100))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    descriptors.raise_limit()


def test_a_module_is_loaded_by_the_descriptors_put_by() -> None:
    code = (
        "descriptors.keep_reserve(); free = os.dup(0); os.close(free); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (free, 64)); "
        "descriptors.load('email.mime.multipart'); import sys; print('email.mime.multipart' in sys.modules)"
    )
    assert run(code, (64, 64)) == "True"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EFBIG])
def test_an_error_about_a_limit_names_it_and_keeps_its_number(number: int) -> None:
    error = descriptors.explained(OSError(number, os.strerror(number)))
    assert error.errno == number
    text = str(error)
    assert any(name in text for name in ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "fs.file-max"))
    assert "ulimit" in text or "sysctl" in text


def test_another_error_stays_what_it_is() -> None:
    error = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert descriptors.explained(error) is error
    assert not descriptors.is_transient(error)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN])
def test_shortages_pass(number: int) -> None:
    assert descriptors.is_transient(OSError(number, ""))


def test_limits_that_are_too_low_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {resource.RLIMIT_NOFILE: 16, resource.RLIMIT_FSIZE: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (values[which], values[which]))
    assert "16 file descriptors (RLIMIT_NOFILE)" in descriptors.too_low()
    values[resource.RLIMIT_NOFILE] = descriptors.MIN_DESCRIPTORS
    assert descriptors.too_low() == ""
    values[resource.RLIMIT_FSIZE] = 1000
    assert "1000 bytes (RLIMIT_FSIZE)" in descriptors.too_low()
