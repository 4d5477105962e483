"""A genetic search whose population is evaluated by workers of Ray."""

import ray
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import ElementwiseProblem
from pymoo.optimize import minimize
from pymoo.parallelization.ray import RayParallelization


class Sphere(ElementwiseProblem):
    def __init__(self, **kwargs):
        super().__init__(n_var=4, n_obj=1, xl=-5, xu=5, **kwargs)

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = (x**2).sum()


ray.init(num_cpus=2)
runner = RayParallelization()
found = minimize(Sphere(elementwise_runner=runner), GA(pop_size=20), ("n_gen", 15), seed=1)
alone = minimize(Sphere(), GA(pop_size=20), ("n_gen", 15), seed=1)
assert found.F[0] == alone.F[0]
print("passed", found.F[0])
