"""Several preprocessors, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skate.data.preprocessors._base import FitStatus, Preprocessor

if TYPE_CHECKING:
    from skate.data.dataset import Dataset


class Chain(Preprocessor):
    """Several preprocessors; each learns from, and changes, what the ones before it made.

    Args:
        preprocessors: in order.

    Raises:
        TypeError: one is no Preprocessor.

    Example:
        >>> Chain(SimpleImputer(["x"]), StandardScaler(["x"]), Concatenator(["x", "y"])).fit_transform(ds)
    """

    def __init__(self, *preprocessors: Preprocessor) -> None:
        for one in preprocessors:
            if not isinstance(one, Preprocessor):
                raise TypeError(f"Chain takes preprocessors, not {one!r} of type {type(one).__name__}")
        self.preprocessors = preprocessors

    def fit_status(self) -> FitStatus:
        """Return FITTED if all parts have learned what they need, NOT_FITTED if none has."""
        found = {one.fit_status() for one in self.preprocessors} - {FitStatus.NOT_FITTABLE}
        if not found:
            return FitStatus.NOT_FITTABLE
        return found.pop() if len(found) == 1 else FitStatus.PARTIALLY_FITTED

    def has_stats(self) -> bool:
        """Tell whether a part has learned values."""
        return any(one.has_stats() for one in self.preprocessors)

    def get_input_columns(self) -> list[str]:
        """Return the columns that are read and made by no part before."""
        made: set[str] = set()
        found: dict[str, None] = {}
        for one in self.preprocessors:
            found.update(dict.fromkeys(name for name in one.get_input_columns() if name not in made))
            made.update(one.get_output_columns())
        return list(found)

    def get_output_columns(self) -> list[str]:
        """Return the columns that are written."""
        return list(dict.fromkeys(name for one in self.preprocessors for name in one.get_output_columns()))

    def fit(self, ds: Dataset) -> Chain:
        """Let each part learn, in order. It runs the data set once for each part that learns."""
        last = max(
            (at for at, one in enumerate(self.preprocessors) if one.fit_status() != FitStatus.NOT_FITTABLE),
            default=-1,
        )
        for one in self.preprocessors[: last + 1]:
            one.fit(ds)
            ds = one.transform(ds)
        return self

    def transform(
        self,
        ds: Dataset,
        *,
        batch_size: int | None = None,
        num_cpus: float | None = None,
        memory: float | None = None,
        concurrency: int | None = None,
    ) -> Dataset:
        """Return a data set transformed by all parts; see ``Preprocessor.transform``."""
        self._check_fitted("transform")
        for one in self.preprocessors:
            ds = one.transform(
                ds, batch_size=batch_size, num_cpus=num_cpus, memory=memory, concurrency=concurrency
            )
        return ds

    def transform_batch(self, data: Any) -> Any:
        """Transform one batch by all parts; see ``Preprocessor.transform_batch``."""
        self._check_fitted("transform_batch")
        for one in self.preprocessors:
            data = one.transform_batch(data)
        return data

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.preprocessors))})"
