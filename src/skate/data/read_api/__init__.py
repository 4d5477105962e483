"""Where data sets come from: ``range``, ``read_*``, ``from_*``."""

from __future__ import annotations

from skate.data.read_api._documents import files, read_html, read_pdf
from skate.data.read_api._media import read_audio, read_binary_files, read_images, read_videos
from skate.data.read_api._memory import (
    from_arrow,
    from_arrow_refs,
    from_blocks,
    from_dask,
    from_huggingface,
    from_items,
    from_numpy,
    from_numpy_refs,
    from_pandas,
    from_pandas_refs,
    from_spark,
    from_torch,
    range,
    range_tensor,
    read_datasource,
)
from skate.data.read_api._tables import read_csv, read_json, read_numpy, read_parquet, read_text
from skate.data.read_api._training import read_sql, read_tfrecords, read_webdataset

__all__ = [
    "files",
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
    "read_audio",
    "read_binary_files",
    "read_csv",
    "read_datasource",
    "read_html",
    "read_images",
    "read_json",
    "read_numpy",
    "read_parquet",
    "read_pdf",
    "read_sql",
    "read_text",
    "read_tfrecords",
    "read_videos",
    "read_webdataset",
]
