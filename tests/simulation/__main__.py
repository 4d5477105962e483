"""Simulates a session, and prints its trace and what is left of it as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from . import virtual


def main() -> None:
    """Run the program of the simulation: ``SEED [MUTANT]``."""
    virtual.install(seed=int(sys.argv[1]))
    from . import check, mutants, program, session, world

    for mutant in sys.argv[2:]:
        mutants.MUTANTS[mutant]()
    here = world.World()
    simulated = session.Session(here)
    results = simulated.run(program.program)
    wanted = program.RESULTS
    found: dict[str, Any] = {
        "wrong": {name: repr(results.get(name)) for name in wanted if results.get(name) != wanted[name]}
    }
    simulated.let_pass(10.0)
    found["left"] = check.left_in(simulated)
    simulated.close()
    found["alive"] = [process.name for process in here.processes if process.alive]
    found["open"] = [*here.listening, *(stream.process.name for stream in world.BY_NUMBER.values())]
    found["bugs"] = [repr(bug) for bug in here.bugs]
    found["seconds"] = virtual.time.now
    found["trace"] = here.trace.lines
    json.dump(found, sys.stdout)


main()
