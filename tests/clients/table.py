"""Which libraries run, in which version range, and what of them.

A library whose source distribution has tests that use Ray runs those; of the others a usual program runs, in
``programs``. What cannot pass is left out by name, with the reason.
"""

from __future__ import annotations

from typing import NamedTuple


class Client(NamedTuple):
    """A library."""

    name: str
    #: For pip; the first is the library itself.
    requirements: tuple[str, ...]
    #: Arguments for pytest: its tests, inside the unpacked source distribution.
    tests: tuple[str, ...] = ()
    #: Tests of an installed module instead: arguments for ``pytest --pyargs``.
    installed: tuple[str, ...] = ()
    #: Name of the distribution whose sources have the tests.
    sources: str = ""
    #: Files of ``programs``, run as scripts.
    programs: tuple[str, ...] = ()
    #: Tests that are left out (for ``--deselect``), and why.
    left_out: tuple[tuple[str, str], ...] = ()
    #: Variables of the environment.
    variables: tuple[tuple[str, str], ...] = ()


CLIENTS = (
    Client(
        "cotengra",
        ("cotengra>=0.8,<0.9", "optuna", "networkx"),
        sources="cotengra",
        tests=("tests/test_optimizers.py", "tests/test_tree.py", "-k", "ray"),
        programs=("cotengra_search.py",),
    ),
    Client("pymoo", ("pymoo>=0.6.1,<0.7",), programs=("pymoo_search.py",)),
    Client(
        "evotorch",
        ("evotorch>=0.6,<0.7", "torch==2.13.0"),
        sources="evotorch",
        tests=(
            "tests/test_parallelization.py",
            "tests/test_core.py",
            "tests/test_cloning.py",
            "tests/test_objectarray.py",
            "-o",
            "addopts=",  # no measuring of coverage
        ),
        programs=("evotorch_actors.py",),
    ),
    Client("flwr", ("flwr>=1.20,<2",), programs=("flwr_simulation.py",)),
    Client("econml", ("econml>=0.15,<0.18",), programs=("econml_dml.py",)),
    Client(
        "deephyper",
        ("deephyper>=0.13,<0.14", "torch==2.13.0"),
        sources="deephyper",
        tests=("tests", "-m", "ray", "--run-marks-subset", "ray,slow,parametrize,asyncio"),
        programs=("deephyper_search.py",),
        left_out=(
            (
                "tests/evaluator/storage/test_ray_storage.py::test_basic",
                "takes a fixture 'self' that nobody has",
            ),
            (
                "tests/evaluator/test_queued_evaluator.py::test_queued_ray_evaluator",
                "asks a job for 'result', which deephyper's jobs do not have",
            ),
            (
                "tests/evaluator/storage/test_ray_storage.py::test_with_evaluator",
                "a process forked from the driver goes on with its connection; skate's forks have none",
            ),
        ),
    ),
    Client(
        "sktime",
        ("sktime>=1,<2",),
        installed=("sktime.utils.tests.test_parallel",),
        programs=("sktime_evaluate.py",),
    ),
    Client("stumpy", ("stumpy>=1.13,<2",), sources="stumpy", tests=("tests/test_ray.py",)),
    Client("hamilton", ("sf-hamilton>=1.80,<2",), programs=("hamilton_graph.py",)),
)
