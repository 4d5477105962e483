"""Knobs: defaults, the environment, ``_system_config``."""

from __future__ import annotations

import pytest

from skate._base.config import Config


def test_without_anything_there_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config._fields:
        monkeypatch.delenv("SKATE_" + name.upper(), raising=False)
    assert Config.load() == Config()


@pytest.mark.parametrize("name", Config._fields)
def test_every_knob_can_be_set_in_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKATE_" + name.upper(), "12")
    assert getattr(Config.load(), name) == 12


@pytest.mark.parametrize("name", Config._fields)
def test_the_program_wins_over_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKATE_" + name.upper(), "12")
    assert getattr(Config.load({name: 13}), name) == 13


def test_knobs_of_other_engines_are_ignored() -> None:
    assert Config.load({"object_spilling_threshold": 0.8}) == Config.load()
