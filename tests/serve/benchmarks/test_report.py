"""Results of the benchmarks of serve as text, as a page and as the README's table; verdicts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from benchmarks.serve import __main__ as program
from benchmarks.serve import applications, chart, child, report, servers
from benchmarks.serve.lines import ALL, BY_NAME, LINES, SESSIONS, TARGETS, Target
from benchmarks.serve.runner import Plan
from benchmarks.serve.systems import SYSTEMS


def _cell(*rounds: dict[str, Any], failures: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"samples": [0.0] * len(rounds), "info": list(rounds), "failures": list(failures)}


def _results(**lines: dict[str, Any]) -> report.Results:
    return report.Results(
        {
            "date": "2026-01-02T03:04:05",
            "machine": {"cpu": "a CPU", "cores": 2, "memory_gib": 8, "kernel": "Linux"},
            "versions": {"skate": {"python": "3", "skate-runtime": "1"}},
            "skipped": {"litserve": "not installed"},
            "options": {"rounds": 2, "peer_rounds": 1, "seconds": 1.0, "generator": "own"},
            "load_average": [1.0, 2.0],
            "lines": lines,
        }
    )


def _target(line: str, fact: str) -> Target:
    return next(it for it in TARGETS if (it.line, it.fact) == (line, fact))


def test_lines_are_consistent() -> None:
    assert set(ALL) == set(SYSTEMS)
    for line in LINES:
        assert line.session in SESSIONS
        assert set(line.systems) <= set(SYSTEMS)
        assert report._meaning(line)
    for target in TARGETS:
        assert "skate" in BY_NAME[target.line].systems
        assert target.against == "itself" or report.BASELINE in BY_NAME[target.line].systems
    assert set(child.PATHS) <= set(applications.APPLICATIONS)
    assert set(report.README_TARGETS) <= {(it.line, it.fact) for it in TARGETS}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_every_target_of_a_line_is_better_where_it_should_be(line: Any) -> None:
    for target in TARGETS:
        if target.line == line.name and target.goal is not None:
            assert target.is_met(target.goal, target.bar)


def test_ratios_pair_the_rounds() -> None:
    found = _results(
        echo_64={
            "skate": _cell({"cpu_us": 100.0}, {"cpu_us": 400.0}, {"cpu_us": 90.0}),
            "uvicorn": _cell({"cpu_us": 100.0}, {"cpu_us": 200.0}, {"cpu_us": 100.0}),
            "ray": _cell({"cpu_us": 5000.0}),
        }
    )
    target = _target("echo_64", "cpu_us")
    assert found.value(target, "skate") == 1.0
    assert found.value(target, "ray") == 50.0
    assert found.verdict(target) == "goal hit"


@pytest.mark.parametrize(("figure", "verdict"), [(0.04, "goal hit"), (0.3, "bar hit"), (0.31, "**missed**")])
def test_added_times_have_verdicts(figure: float, verdict: str) -> None:
    found = _results(
        echo_1={"skate": _cell({"p50_ms": figure}), "uvicorn": _cell({"p50_ms": 0.0})},
    )
    assert found.verdict(_target("echo_1", "p50_ms")) == verdict


def test_a_failed_round_is_a_miss_and_is_listed() -> None:
    found = _results(handle_1={"skate": _cell({"p50_ms": 0.1}, failures=("ValueError: no",))})
    assert found.verdict(_target("handle_1", "p50_ms")) == "missed: a round failed"
    page = report.as_markdown(found)
    assert "skate.serve, call of a handle, one after the other: ValueError: no" in page
    assert "LitServe was not measured: not installed" in page


def test_failed_requests_are_listed() -> None:
    facts = {"rps": 1.0, "p50_ms": 1.0, "p99_ms": 1.0, "cpu_us": 1.0, "failed": 3}
    assert "3 requests failed" in report.as_text(_results(echo_8={"ray": _cell(facts)}))


def test_the_readme_gets_the_table_between_its_marks() -> None:
    found = _results(cold_start={"skate": _cell({"seconds": 0.4}), "ray": _cell({"seconds": 20.0})})
    table = report.readme_table(found)
    assert "| cold interpreter to the first 200 | 0.4 s | 20 s |" in table
    text = "a\n<!-- serve: measured -->\nold\n<!-- end of serve: measured -->\nb\n"
    assert report.with_table(text, found) == text.replace("old\n", table)
    assert report.with_table("no marks", found) == "no marks"


def test_the_documents_show_the_recorded_run() -> None:
    """`python -m benchmarks.serve --markdown > docs/serve-performance.md` after a run of another machine."""
    there = program.LATEST.exists()
    found = report.Results(json.loads(program.LATEST.read_text())) if there else None
    assert program.PAGE.read_text() == report.as_markdown(found)
    readme = (program.ROOT / "README.md").read_text()
    assert readme == report.with_table(readme, found)


def test_the_picture_is_the_same_for_the_same_results(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    points = [[percent, 0.1 * percent] for percent in range(1, 101)]
    found = _results(echo_8={"skate": _cell({"percentiles": points}), "ray": _cell({"percentiles": points})})
    drawn = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in drawn:
        assert chart.draw(found, path) == ""
    assert drawn[0].read_text() == drawn[1].read_text()
    assert "<svg" in drawn[0].read_text()
    assert "was not measured" in chart.draw(_results(), tmp_path / "none.svg")


def test_slow_systems_run_in_the_first_rounds_only() -> None:
    plan = Plan(("skate", "ray"), LINES, 3, 1, 3.0, 60.0, "own", {})
    assert plan.wanted("ray", "echo", 0)
    assert not plan.wanted("ray", "echo", 1)
    assert plan.wanted("skate", "echo", 2)


@pytest.mark.parametrize("system", SYSTEMS)
def test_commands_name_the_port(system: str) -> None:
    assert "8123" in servers.command(system, "echo", 8123)
