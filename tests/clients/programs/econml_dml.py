"""Cross-fitting in tasks of Ray, and the same without."""

import numpy as np
import ray
from econml.dml import CausalForestDML, LinearDML
from sklearn.linear_model import LassoCV, LinearRegression

rng = np.random.default_rng(0)
X = rng.normal(size=(400, 3))
T = X[:, 0] + rng.normal(size=400)
Y = (1 + X[:, 1]) * T + rng.normal(size=400)

ray.init(num_cpus=2)


def fitted(use_ray):
    model = LinearDML(
        model_y=LinearRegression(), model_t=LinearRegression(), random_state=1, cv=3, use_ray=use_ray,
        ray_remote_func_options={"num_cpus": 1} if use_ray else None,
    )  # fmt: skip
    return model.fit(Y, T, X=X).effect(X)


assert np.allclose(fitted(True), fitted(False))
forest = CausalForestDML(model_y=LassoCV(), model_t=LassoCV(), n_estimators=40, random_state=1, use_ray=True)
forest.fit(Y, T, X=X)
assert np.corrcoef(forest.effect(X), 1 + X[:, 1])[0, 1] > 0.5
print("passed")
