"""Forecasters evaluated and tuned in tasks of Ray."""

from sktime.datasets import load_airline
from sktime.forecasting.model_evaluation import evaluate
from sktime.forecasting.model_selection import ForecastingGridSearchCV
from sktime.forecasting.naive import NaiveForecaster
from sktime.split import ExpandingWindowSplitter

y = load_airline()
cv = ExpandingWindowSplitter(initial_window=60, step_length=24, fh=[1, 2, 3])
params = {"ray_remote_args": {"num_cpus": 2}}
found = evaluate(NaiveForecaster(sp=12), cv=cv, y=y, backend="ray", backend_params=params)
alone = evaluate(NaiveForecaster(sp=12), cv=cv, y=y)
name = "test_MeanAbsolutePercentageError"
assert (found[name] == alone[name]).all()
grid = ForecastingGridSearchCV(
    NaiveForecaster(sp=12),
    cv=cv,
    param_grid={"strategy": ["last", "mean"]},
    backend="ray",
    backend_params=params,
)
assert grid.fit(y, fh=[1, 2, 3]).best_params_ == {"strategy": "last"}
print("passed", len(found))
