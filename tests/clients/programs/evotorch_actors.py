"""Problems evaluated and searched by actors."""

import torch
from evotorch import Problem
from evotorch.algorithms import PGPE, SNES


def sphere(xs: torch.Tensor) -> torch.Tensor:
    return torch.sum(xs**2, dim=-1)


torch.manual_seed(1)
problem = Problem("min", sphere, solution_length=10, initial_bounds=(-1, 1), vectorized=True, num_actors=2)
searcher = SNES(problem, stdev_init=1.0, popsize=50)
searcher.run(50)
assert searcher.status["best_eval"] < 0.5, searcher.status["best_eval"]
problem.kill_actors()

torch.manual_seed(1)
problem = Problem("min", sphere, solution_length=10, initial_bounds=(-1, 1), vectorized=True, num_actors=2)
searcher = PGPE(
    problem, popsize=50, center_learning_rate=0.2, stdev_learning_rate=0.1, stdev_init=1.0, distributed=True
)
searcher.run(50)
assert float(sphere(searcher.status["center"])) < 1, searcher.status["center"]
problem.kill_actors()
print("passed")
