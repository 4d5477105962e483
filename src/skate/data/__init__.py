"""skate.data: tables that are larger than memory, pipelines over files, pictures, sound and models.

::

    import skate.data

    photos = skate.data.read_images("photos/", include_paths=True)
    photos.map_batches(Embed, batch_size=32).write_parquet("embeddings/")

The names are those of ``ray.data``. They are loaded at first use: importing this package loads neither
pyarrow nor numpy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skate.data._verbs.iterators import DataIterator as DataIterator
    from skate.data._verbs.pools import free_pools as free_pools
    from skate.data._verbs.pools import keep_warm as keep_warm
    from skate.data._verbs.pools import pools as pools
    from skate.data._verbs.schema import Schema as Schema
    from skate.data.compute import ActorPoolStrategy as ActorPoolStrategy
    from skate.data.compute import TaskPoolStrategy as TaskPoolStrategy
    from skate.data.context import DataContext as DataContext
    from skate.data.context import set_progress_bars as set_progress_bars
    from skate.data.dataset import Dataset as Dataset
    from skate.data.dataset import MaterializedDataset as MaterializedDataset
    from skate.data.datasink import Datasink as Datasink
    from skate.data.datasink import SaveMode as SaveMode
    from skate.data.datasource import Datasource as Datasource
    from skate.data.datasource import ReadTask as ReadTask
    from skate.data.execution_options import ExecutionOptions as ExecutionOptions
    from skate.data.execution_options import ExecutionResources as ExecutionResources
    from skate.data.execution_options import NodeIdStr as NodeIdStr
    from skate.data.preprocessors import Preprocessor as Preprocessor
    from skate.data.read_api import files as files
    from skate.data.read_api import from_arrow as from_arrow
    from skate.data.read_api import from_arrow_refs as from_arrow_refs
    from skate.data.read_api import from_blocks as from_blocks
    from skate.data.read_api import from_dask as from_dask
    from skate.data.read_api import from_huggingface as from_huggingface
    from skate.data.read_api import from_items as from_items
    from skate.data.read_api import from_numpy as from_numpy
    from skate.data.read_api import from_numpy_refs as from_numpy_refs
    from skate.data.read_api import from_pandas as from_pandas
    from skate.data.read_api import from_pandas_refs as from_pandas_refs
    from skate.data.read_api import from_spark as from_spark
    from skate.data.read_api import from_torch as from_torch
    from skate.data.read_api import range as range
    from skate.data.read_api import range_tensor as range_tensor
    from skate.data.read_api import read_audio as read_audio
    from skate.data.read_api import read_binary_files as read_binary_files
    from skate.data.read_api import read_csv as read_csv
    from skate.data.read_api import read_datasource as read_datasource
    from skate.data.read_api import read_html as read_html
    from skate.data.read_api import read_images as read_images
    from skate.data.read_api import read_json as read_json
    from skate.data.read_api import read_numpy as read_numpy
    from skate.data.read_api import read_parquet as read_parquet
    from skate.data.read_api import read_pdf as read_pdf
    from skate.data.read_api import read_sql as read_sql
    from skate.data.read_api import read_text as read_text
    from skate.data.read_api import read_tfrecords as read_tfrecords
    from skate.data.read_api import read_videos as read_videos
    from skate.data.read_api import read_webdataset as read_webdataset
    from skate.data.seeds import FileShuffleConfig as FileShuffleConfig
    from skate.data.seeds import RandomSeedConfig as RandomSeedConfig

_READS = (
    "files", "from_arrow", "from_arrow_refs", "from_blocks", "from_dask", "from_huggingface", "from_items",
    "from_numpy", "from_numpy_refs", "from_pandas", "from_pandas_refs", "from_spark", "from_torch", "range",
    "range_tensor", "read_audio", "read_binary_files", "read_csv", "read_datasource", "read_html",
    "read_images", "read_json", "read_numpy", "read_parquet", "read_pdf", "read_sql", "read_text",
    "read_tfrecords", "read_videos", "read_webdataset",
)  # fmt: skip
_MODULES = (
    "aggregate", "block", "collate_fn", "compute", "context", "dataset", "datasink", "datasource", "datatype",
    "exceptions", "execution_options", "expressions", "extensions", "grouped_data", "iterator",
    "preprocessor", "preprocessors", "read_api",
)  # fmt: skip

#: Public name to (module, name there).
_PLACES: dict[str, tuple[str, str]] = {
    **{name: ("skate.data.read_api", name) for name in _READS},
    **{name: ("skate.data.compute", name) for name in ("ActorPoolStrategy", "TaskPoolStrategy")},
    **{name: ("skate.data.context", name) for name in ("DataContext", "set_progress_bars")},
    # Ray's other name for it.
    "DatasetContext": ("skate.data.context", "DataContext"),
    **{name: ("skate.data.dataset", name) for name in ("Dataset", "MaterializedDataset", "Schema")},
    **{
        name: ("skate.data.execution_options", name)
        for name in ("ExecutionOptions", "ExecutionResources", "NodeIdStr")
    },
    **{name: ("skate.data.seeds", name) for name in ("FileShuffleConfig", "RandomSeedConfig")},
    **{name: ("skate.data._verbs.pools", name) for name in ("free_pools", "keep_warm", "pools")},
    "DataIterator": ("skate.data.iterator", "DataIterator"),
    **{
        name: ("skate.data.datasink", name)
        for name in ("BlockBasedFileDatasink", "Datasink", "RowBasedFileDatasink", "SaveMode")
    },
    **{name: ("skate.data.datasource", name) for name in ("Datasource", "ReadTask")},
    "Preprocessor": ("skate.data.preprocessors", "Preprocessor"),
}

__all__ = sorted([*_PLACES, *_MODULES])


def __getattr__(name: str) -> object:
    if name in _PLACES:
        module, attribute = _PLACES[name]
        found: object = getattr(_import(module), attribute)
    elif name in _MODULES:
        found = _import(f"skate.data.{name}")
    else:
        raise _absence(name)
    globals()[name] = found
    return found


def _import(module: str) -> object:
    from importlib import import_module
    from importlib.util import find_spec

    # Its first import may be deep inside of a call: what is missing is said where data is first used.
    if "pyarrow" not in sys.modules and find_spec("pyarrow") is None:
        raise ImportError(
            "skate.data needs the package pyarrow, which is not installed: pip install 'skate-runtime[data]'"
        )
    return import_module(module)


def _absence(name: str) -> Exception:
    """Say why a name is not there: some of Ray's are left out for a reason."""
    from skate.data._left_out import reason, refuse
    from skate.data._previews import meant

    if reason(name) is not None:
        return refuse(name)
    guess = "" if name.startswith("_") else meant(name, __all__)
    return AttributeError(f"module 'skate.data' has no attribute {name!r}{guess}")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
