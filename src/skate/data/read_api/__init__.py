"""Where data sets come from: ``range``, ``read_*``, ``from_*``. Each is loaded at first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skate.data.read_api._documents import files as files
    from skate.data.read_api._documents import read_html as read_html
    from skate.data.read_api._documents import read_pdf as read_pdf
    from skate.data.read_api._media import read_audio as read_audio
    from skate.data.read_api._media import read_binary_files as read_binary_files
    from skate.data.read_api._media import read_images as read_images
    from skate.data.read_api._media import read_videos as read_videos
    from skate.data.read_api._memory import from_arrow as from_arrow
    from skate.data.read_api._memory import from_arrow_refs as from_arrow_refs
    from skate.data.read_api._memory import from_blocks as from_blocks
    from skate.data.read_api._memory import from_dask as from_dask
    from skate.data.read_api._memory import from_huggingface as from_huggingface
    from skate.data.read_api._memory import from_items as from_items
    from skate.data.read_api._memory import from_numpy as from_numpy
    from skate.data.read_api._memory import from_numpy_refs as from_numpy_refs
    from skate.data.read_api._memory import from_pandas as from_pandas
    from skate.data.read_api._memory import from_pandas_refs as from_pandas_refs
    from skate.data.read_api._memory import from_spark as from_spark
    from skate.data.read_api._memory import from_torch as from_torch
    from skate.data.read_api._memory import range as range
    from skate.data.read_api._memory import range_tensor as range_tensor
    from skate.data.read_api._memory import read_datasource as read_datasource
    from skate.data.read_api._tables import read_csv as read_csv
    from skate.data.read_api._tables import read_json as read_json
    from skate.data.read_api._tables import read_numpy as read_numpy
    from skate.data.read_api._tables import read_parquet as read_parquet
    from skate.data.read_api._tables import read_text as read_text
    from skate.data.read_api._training import read_sql as read_sql
    from skate.data.read_api._training import read_tfrecords as read_tfrecords
    from skate.data.read_api._training import read_webdataset as read_webdataset

_PLACES: dict[str, tuple[str, ...]] = {
    "_documents": (
        "files",
        "read_html",
        "read_pdf",
    ),
    "_media": (
        "read_audio",
        "read_binary_files",
        "read_images",
        "read_videos",
    ),
    "_memory": (
        "from_arrow",
        "from_arrow_refs",
        "from_blocks",
        "from_dask",
        "from_huggingface",
        "from_items",
        "from_numpy",
        "from_numpy_refs",
        "from_pandas",
        "from_pandas_refs",
        "from_spark",
        "from_torch",
        "range",
        "range_tensor",
        "read_datasource",
    ),
    "_tables": (
        "read_csv",
        "read_json",
        "read_numpy",
        "read_parquet",
        "read_text",
    ),
    "_training": (
        "read_sql",
        "read_tfrecords",
        "read_webdataset",
    ),
}

#: Public name to the module that has it.
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module 'skate.data.read_api' has no attribute {name!r}")
    found: object = getattr(import_module(f"skate.data.read_api.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
