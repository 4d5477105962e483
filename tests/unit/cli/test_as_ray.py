"""The command ``ray``: skate's commands by Ray's names."""

from __future__ import annotations

import pytest

from skate._as_ray import RAY_VERSION
from skate.cli import as_ray, main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_ray.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ray, version {RAY_VERSION}\n"


@pytest.mark.parametrize("command", as_ray._LACKING)
def test_what_is_missing_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command not in main.COMMANDS
    assert as_ray.main([command, "--anything"]) == 2
    assert f"skate has no `{command}` (yet)" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_ray.main([]) == 2
    assert as_ray.main(["--help"]) == 0
    assert "usage: ray COMMAND" in capsys.readouterr().out


def test_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_ray.main(["nonsense"]) == 2
    assert "no command 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "kept", "ignored"),
    [
        (["--head", "--port=6379", "--num-cpus", "2"], ["--head", "--num-cpus", "2"], ["--port"]),
        (["--port", "6379", "--head"], ["--head"], ["--port"]),
        (["--disable-usage-stats", "--head"], ["--head"], ["--disable-usage-stats"]),
        (["--head", "--port"], ["--head"], ["--port"]),
        (["--log-style", "record", "--head", "-v"], ["--head"], []),
        (["--resources={}"], ["--resources={}"], []),
    ],
)
def test_options_without_effect(given: list[str], kept: list[str], ignored: list[str]) -> None:
    assert as_ray._sorted("start", given) == (kept, ignored)


def test_options_of_other_commands_stay() -> None:
    assert as_ray._sorted("list", ["actors", "--port"]) == (["actors", "--port"], [])
