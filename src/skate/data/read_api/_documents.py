"""Reading PDF and HTML documents, and facts of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skate.data._io.files.partitioning import Partitioning
from skate.data._io.readers.file_facts import FilesDatasource
from skate.data._io.readers.html import HTMLDatasource
from skate.data._io.readers.pdf import PDFDatasource
from skate.data.dataset import Dataset
from skate.data.read_api._made import error_policy, made
from skate.data.seeds import FileShuffleConfig


def read_pdf(
    paths: str | Sequence[str],
    *,
    per: str = "page",
    text: bool = True,
    render_dpi: float | None = None,
    max_pages: int | None = None,
    password: str | None = None,
    filesystem: Any = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = PDFDatasource.default_extensions,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
) -> Dataset:
    """Return pages or documents of PDF files: columns ``text``, ``num_pages`` and, for pages, ``page``.

    With ``render_dpi`` also pictures of the pages, in a column ``image``.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        per: ``"page"`` or ``"document"``: what a row is.
        text: add the column ``text``.
        render_dpi: dots an inch of pictures of pages; None: no pictures.
        max_pages: pages that are read of each file; None: all.
        password: of encrypted files.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_pdf("papers/", per="document")
    """
    source = PDFDatasource(
        paths,
        per=per,
        text=text,
        render_dpi=render_dpi,
        max_pages=max_pages,
        password=password,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_pdf",
        source,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        label_selector=label_selector,
        fallback_strategy=fallback_strategy,
        max_calls=max_calls,
        resources=resources,
        accelerator_type=accelerator_type,
        runtime_env=runtime_env,
        ray_remote_args=ray_remote_args,
    )


def read_html(
    paths: str | Sequence[str],
    *,
    include_html: bool = False,
    separator: str = "\n",
    remove: Sequence[str] = ("script", "style", "noscript", "template"),
    encoding: str | None = None,
    filesystem: Any = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = HTMLDatasource.default_extensions,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
) -> Dataset:
    """Return titles and texts of HTML files, in columns ``title`` and ``text``.

    A row is a file.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        include_html: add a column ``html``: the source.
        separator: stands between two lines. Paragraphs, headings, list items and rows of tables have lines of
            their own; text in ``<b>``, ``<a>`` and their like is a part of the line around it.
        remove: CSS selectors of elements whose text is left out.
        encoding: of all files; None: as a file says, else UTF-8.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_html("pages/")
    """
    source = HTMLDatasource(
        paths,
        include_html=include_html,
        separator=separator,
        remove=list(remove),
        encoding=encoding,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "read_html",
        source,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        label_selector=label_selector,
        fallback_strategy=fallback_strategy,
        max_calls=max_calls,
        resources=resources,
        accelerator_type=accelerator_type,
        runtime_env=runtime_env,
        ray_remote_args=ray_remote_args,
    )


def files(
    paths: str | Sequence[str],
    *,
    detect_type: bool = True,
    filesystem: Any = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: Mapping[str, str] | None = None,
    fallback_strategy: Any = None,
    max_calls: int | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    max_file_bytes: int | None = None,
) -> Dataset:
    """Return facts of files, in columns ``path``, ``size`` (bytes), ``mtime`` and ``type``.

    A cheap first stage: choose files here, and read them in a function.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        detect_type: look at the first bytes of each file for its type; False: no column ``type``, no file is
            opened.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.files("downloads/").filter(expr=col("size") > 1000)
    """
    source = FilesDatasource(
        paths,
        detect_type=detect_type,
        filesystem=filesystem,
        open_stream_args=arrow_open_stream_args,
        partition_filter=partition_filter,
        partitioning=partitioning,
        include_paths=include_paths,
        ignore_missing_paths=ignore_missing_paths,
        shuffle=shuffle,
        file_extensions=file_extensions,
        max_file_bytes=max_file_bytes,
        on_error=error_policy(on_error),
    )
    return made(
        "files",
        source,
        override_num_blocks=override_num_blocks,
        concurrency=concurrency,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        label_selector=label_selector,
        fallback_strategy=fallback_strategy,
        max_calls=max_calls,
        resources=resources,
        accelerator_type=accelerator_type,
        runtime_env=runtime_env,
        ray_remote_args=ray_remote_args,
    )
