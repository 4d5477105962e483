"""A search for parameters whose trials run in tasks of Ray."""

import tempfile

from deephyper.evaluator import Evaluator
from deephyper.hpo import CBO, HpProblem


def run(job):
    return -((job.parameters["x"] - 2) ** 2)


if __name__ == "__main__":
    problem = HpProblem()
    problem.add((-10.0, 10.0), "x")
    evaluator = Evaluator.create(run, method="ray", method_kwargs={"num_cpus": 2, "num_cpus_per_task": 1})
    with tempfile.TemporaryDirectory() as folder:
        search = CBO(problem, log_dir=folder, random_state=1, surrogate_model="RF")
        found = search.search(evaluator, max_evals=20)
    assert len(found) >= 20
    assert found["objective"].astype(float).max() > -10
    print("passed", found["objective"].max())
