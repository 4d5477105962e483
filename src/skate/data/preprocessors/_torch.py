"""Pictures, by a transform of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from skate.data._block.kernels.arrays import MissingColumnError
from skate.data.preprocessors._base import Preprocessor, checked_names


class TorchVisionPreprocessor(Preprocessor):
    """Applies a transform of torchvision, or any function of tensors, to columns of arrays.

    Args:
        columns: names of columns of arrays, such as pictures.
        transform: takes a tensor of torch, or an array if it refuses tensors (``ToTensor``); returns either.
        output_columns: names of the results; None: in place of the columns.
        batched: call it once with all arrays of a batch, not for each.

    Raises:
        ImportError: when it runs: torch is not installed.
        TypeError: when it runs: the transform returned something else than a tensor or an array.

    Example:
        >>> from torchvision import transforms
        >>> TorchVisionPreprocessor(columns=["image"], transform=transforms.ToTensor()).transform(ds)
    """

    _is_fittable = False

    def __init__(
        self,
        columns: Sequence[str],
        transform: Callable[[Any], Any],
        output_columns: Sequence[str] | None = None,
        batched: bool = False,
    ) -> None:
        self.columns = checked_names("TorchVisionPreprocessor", "columns", columns)
        self.output_columns = (
            list(self.columns)
            if output_columns is None
            else checked_names("TorchVisionPreprocessor", "output_columns", output_columns)
        )
        if len(self.output_columns) != len(self.columns):
            raise ValueError(
                f"TorchVisionPreprocessor: output_columns has {len(self.output_columns)} names for "
                f"{len(self.columns)} columns"
            )
        if not callable(transform):
            raise TypeError(f"TorchVisionPreprocessor(transform={transform!r}) must be a function")
        self.torchvision_transform = transform
        self.batched = batched

    def _transform_numpy(self, batch: dict[str, Any]) -> dict[str, Any]:
        made = {}
        for name, output in zip(self.columns, self.output_columns, strict=True):
            if name not in batch:
                raise MissingColumnError(name, list(batch), "TorchVisionPreprocessor")
            arrays = batch[name]
            made[output] = self._applied(arrays) if self.batched else _stacked(map(self._applied, arrays))
        return {**batch, **made}

    def _applied(self, array: Any) -> Any:
        import numpy as np

        torch = _torch()
        array = np.stack(array) if array.dtype == object else array
        try:
            result = self.torchvision_transform(torch.as_tensor(array))
        except TypeError:  # of ToTensor and PILToTensor, which take arrays
            result = self.torchvision_transform(array)
        if isinstance(result, torch.Tensor):
            result = result.numpy()
        if not isinstance(result, np.ndarray):
            raise TypeError(
                "TorchVisionPreprocessor: the transform must return a tensor of torch or an array, but it "
                f"returned a {type(result).__name__}"
            )
        return result


def _stacked(results: Any) -> Any:
    import numpy as np

    made = list(results)
    if len({one.shape for one in made}) <= 1:
        return np.stack(made) if made else np.empty((0,))
    array = np.empty(len(made), object)
    array[:] = made
    return array


def _torch() -> Any:
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError(
            "TorchVisionPreprocessor needs torch, which is not installed here: pip install torch"
        ) from error
    return torch
