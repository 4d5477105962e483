"""Arrays of ``.npy`` and ``.npz`` files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._block.batches import from_batch
from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.errors import FileReadError, FileTooLargeError, require
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile, check_not_empty
from skate.data._options import check_type

#: Of an array, of a zip file with arrays, of such a file without any.
_BEGINNINGS = (b"\x93NUM", b"PK\x03\x04", b"PK\x05\x06")


class NumpyDatasource(FileBasedDatasource):
    """Arrays: a column ``data``, a row for each item of the first axis; of ``.npz`` files a column an array.

    Args:
        paths: see ``FileBasedDatasource``.
        allow_pickle: load arrays of objects too: unpickling runs whatever the file says, so only for files
            of yours.
        numpy_load_args: further arguments of ``numpy.load``: ``max_header_size``, ...
        **options: of ``FileBasedDatasource``.
    """

    default_extensions = ("npy",)
    limits = BundleLimits(most_bytes=64 << 20, most_files=1000, least_bytes=4 << 20)

    def __init__(
        self,
        paths: Any,
        *,
        allow_pickle: bool = False,
        numpy_load_args: Mapping[str, Any] | None = None,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        require("numpy", "read_numpy", "data-all")
        check_type("allow_pickle", allow_pickle, bool, "True or False")
        self._load_args = {"allow_pickle": allow_pickle, **(numpy_load_args or {})}
        super().__init__(paths, file_extensions=file_extensions, **options)

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        import numpy as np

        check_not_empty(file, "array")
        with file.open() as stream:
            if not self._load_args["allow_pickle"] and stream.read(4) not in _BEGINNINGS:
                # numpy takes anything else for a pickle, and recommends to load it.
                raise FileReadError(file.path, "it is no array of numpy: .npy and .npz files begin otherwise")
            stream.seek(0)
            try:
                loaded = np.load(stream, **self._load_args)
            except MemoryError as error:
                raise FileTooLargeError(file.path, f"it does not fit into memory: {error}") from error
            if isinstance(loaded, np.ndarray):
                yield from_batch({"data": np.atleast_1d(loaded)}, "read_numpy")
                return
            if not hasattr(loaded, "files"):
                raise ValueError("it is a pickle, not an array: write it with numpy.save")
            if self._max_file_bytes is not None:
                size = sum(member.file_size for member in loaded.zip.infolist())
                if size > self._max_file_bytes:
                    raise FileTooLargeError(
                        file.path,
                        f"its arrays have {size} bytes, max_file_bytes is {self._max_file_bytes}",
                    )
            arrays = {name: np.atleast_1d(loaded[name]) for name in loaded.files}
            yield from_batch(arrays, "read_numpy")
