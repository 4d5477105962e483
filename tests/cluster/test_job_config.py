"""What a program says of its job: logging in all its processes, metadata, namespace, lifetimes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import skate
from skate import LoggingConfig
from skate.job_config import JobConfig
from skate.util.state import list_actors, list_jobs

PROGRAM = """
import logging, sys
import skate
skate.init(num_cpus=1, log_to_driver=True, logging_config=skate.LoggingConfig({config}))
logger = logging.getLogger("mine")

@skate.remote
def task():
    logger.debug("not at this level")
    logger.info("in the task", extra={{"size": 3}})
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception("it failed")

@skate.remote
class Actor:
    async def call(self):
        logger.warning("in the actor")

logger.info("in the driver")
skate.get(task.remote())
skate.get(Actor.options(name="it").remote().call.remote())
skate.shutdown()
"""


def lines_of(config: str) -> list[str]:
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(config=config)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return made.stderr.splitlines()


def test_json_with_who_logged() -> None:
    found: dict[str, dict[str, Any]] = {}
    for line in lines_of('encoding="JSON", additional_log_standard_attrs=["name"]'):
        row = json.loads(line[line.index("{") :])
        found[row["message"]] = row
    assert set(found) == {"in the driver", "in the task", "it failed", "in the actor"}
    assert {row["name"] for row in found.values()} == {"mine"}
    assert (
        len({row["job_id"] for row in found.values()}) == len({row["node_id"] for row in found.values()}) == 1
    )
    driver, task, failed, actor = (
        found[one] for one in ("in the driver", "in the task", "it failed", "in the actor")
    )
    assert (task["size"], task["levelname"], task["task_name"]) == (3, "INFO", "task")
    assert "task_id" not in driver and driver["worker_id"] != task["worker_id"]
    assert "ZeroDivisionError" in failed["exc_text"]
    assert (actor["actor_name"], actor["task_name"]) == ("it", "Actor.call")
    assert all(row["timestamp_ns"] > 10**18 and row["asctime"] for row in found.values())


def test_text_at_a_level() -> None:
    lines = lines_of('log_level="WARNING"')
    assert not [line for line in lines if "in the driver" in line or "in the task" in line]
    (line,) = [line for line in lines if "in the actor" in line]
    assert "WARNING" in line and "actor_name=it" in line and "job_id=" in line


def test_what_is_no_logging_config() -> None:
    with pytest.raises(ValueError, match="'TEXT' or 'JSON', got 'XML'"):
        LoggingConfig(encoding="XML")
    with pytest.raises(ValueError, match="a level of logging, as 'INFO', got 'LOUD'"):
        LoggingConfig(log_level="LOUD")
    with pytest.raises(ValueError, match="no attribute 'colour'"):
        LoggingConfig(additional_log_standard_attrs=["colour"])
    config = LoggingConfig("JSON", "DEBUG", ["name"])
    assert LoggingConfig.from_dict({**config.to_dict(), "later": 1}) == config


@pytest.fixture
def started(leak_check: None) -> Iterator[Any]:
    before = list(logging.getLogger().handlers), logging.getLogger().level
    yield skate.init
    skate.shutdown()
    logging.getLogger().handlers[:] = before[0]
    logging.getLogger().setLevel(before[1])


@skate.remote
class Actor:
    def variable(self, name: str) -> str | None:
        return os.environ.get(name)


def test_namespace_metadata_and_environment(started: Any) -> None:
    config = JobConfig(
        metadata={"owner": "me"}, ray_namespace="mine", runtime_env={"env_vars": {"MODE": "job"}}
    )  # fmt: skip
    config.set_metadata("team", "search")
    started(num_cpus=1, job_config=config)
    assert skate.get_runtime_context().namespace == "mine"
    (job,) = list_jobs()
    assert job.metadata == {"owner": "me", "team": "search"}
    assert job.runtime_env == {"env_vars": {"MODE": "job"}}
    assert skate.get(Actor.remote().variable.remote("MODE")) == "job"


def test_init_goes_before_the_configuration(started: Any) -> None:
    config = JobConfig(ray_namespace="mine", runtime_env={"env_vars": {"MODE": "job"}})
    started(num_cpus=1, job_config=config, namespace="other", runtime_env={"env_vars": {"MODE": "init"}})
    assert skate.get_runtime_context().namespace == "other"
    assert skate.get(Actor.remote().variable.remote("MODE")) == "init"


def test_actors_are_detached_by_default_if_the_job_says_so(started: Any) -> None:
    started(num_cpus=2, job_config=JobConfig(default_actor_lifetime="detached"))
    kept, dropped = Actor.options(name="kept").remote(), Actor.options(lifetime="non_detached").remote()
    skate.get([kept.variable.remote("A"), dropped.variable.remote("A")])
    assert {row.name: row.is_detached for row in list_actors()} == {"kept": True, None: False}
    del kept
    assert skate.get(skate.get_actor("kept").variable.remote("A")) is None
    skate.kill(skate.get_actor("kept"))


def test_a_configuration_of_json(started: Any) -> None:
    text = '{"metadata": {"a": "b"}, "ray_namespace": "n", "py_logging_config": {"encoding": "JSON"}, "x": 1}'
    config = JobConfig.from_json(text)
    assert (config.metadata, config.ray_namespace) == ({"a": "b"}, "n")
    assert config.logging_config == LoggingConfig("JSON")
    config.ensure_logging_config(LoggingConfig("TEXT"))
    assert config.logging_config.encoding == "JSON"
    started(num_cpus=1, job_config=json.loads(text))
    assert skate.get_runtime_context().namespace == "n"
    assert any(type(one).__name__ == "_Handler" for one in logging.getLogger().handlers)


def test_what_is_no_job_config() -> None:
    for given, error, text in (
        ({"metadata": {"a": 1}}, TypeError, "strings only"), ({"ray_namespace": 3}, TypeError, "ray_namespace"),
        ({"default_actor_lifetime": "long"}, ValueError, "'detached' or 'non_detached'"),
        ({"jvm_options": ["-X"]}, ValueError, "other languages"),
        ({"_disable_job_level_lineage_reconstruction": True}, ValueError, "max_retries=0"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):  # type: ignore[arg-type]
            JobConfig(**given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="logging_config takes a skate.LoggingConfig"):
        JobConfig().set_py_logging_config("JSON")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="job_config takes"):
        skate.init(job_config=3)
    with pytest.raises(ValueError, match="no field 'colour'"):
        JobConfig().set_runtime_env({"colour": "red"}, validate=True)
    assert not skate.is_initialized()
