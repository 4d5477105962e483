"""Reading pictures, sound, videos, and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skate.data._io.files.partitioning import Partitioning
from skate.data._io.readers.audio import AudioDatasource
from skate.data._io.readers.binary import BinaryDatasource
from skate.data._io.readers.images import MAX_PIXELS, ImageDatasource
from skate.data._io.readers.videos import VideoDatasource
from skate.data.dataset import Dataset
from skate.data.read_api._made import error_policy, made
from skate.data.seeds import FileShuffleConfig


def read_images(
    paths: str | Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    max_pixels: int = MAX_PIXELS,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_file_args: Mapping[str, Any] | None = None,
    partition_filter: Any = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: FileShuffleConfig | str | None = None,
    file_extensions: Sequence[str] | None = ImageDatasource.default_extensions,
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
    """Return pictures as arrays, in a column ``image``: a row for each file.

    A grey picture is (height, width), a coloured one (height, width, channels).

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        size: (height, width) that all are brought to; None: as they are.
        mode: Pillow's name of the colours: ``"RGB"``, ``"RGBA"``, ``"L"``, ...; None: as they are.
        max_pixels: larger pictures count as unreadable; they are refused before they take memory.
        arrow_open_file_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_images("photos/", mode="RGB", include_paths=True)
    """
    source = ImageDatasource(
        paths,
        size=size,
        mode=mode,
        max_pixels=max_pixels,
        filesystem=filesystem,
        open_stream_args=arrow_open_file_args,
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
        "read_images",
        source,
        parallelism=parallelism,
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


def read_binary_files(
    paths: str | Sequence[str],
    *,
    filesystem: Any = None,
    parallelism: int = -1,
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
    """Return the bytes of files, in a column ``bytes``: a row for each file.

    Compressed files are decompressed, unless ``arrow_open_stream_args={'compression': None}``.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
                arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as
                    their names say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_binary_files("downloads/", include_paths=True)
    """
    source = BinaryDatasource(
        paths,
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
        "read_binary_files",
        source,
        parallelism=parallelism,
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


def read_audio(
    paths: str | Sequence[str],
    *,
    sample_rate: int | None = None,
    mono: bool = False,
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
    file_extensions: Sequence[str] | None = AudioDatasource.default_extensions,
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
    """Return sound, in columns ``amplitude`` (channels, samples; floats from -1 to 1) and ``sample_rate``.

    A row is a file.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        sample_rate: samples a second that all are brought to; None: as they are.
        mono: take the mean of the channels.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_audio("speech/", sample_rate=16000, mono=True)
    """
    source = AudioDatasource(
        paths,
        sample_rate=sample_rate,
        mono=mono,
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
        "read_audio",
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


def read_videos(
    paths: str | Sequence[str],
    *,
    include_timestamps: bool = False,
    fps: float | None = None,
    resize: tuple[int, int] | None = None,
    stride: int = 1,
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
    file_extensions: Sequence[str] | None = VideoDatasource.default_extensions,
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
    """Return the frames of videos, in columns ``frame`` (height, width, 3) and ``frame_index``.

    A row is a frame; frames go on while a file is decoded.

    Args:
        paths: a file, folder or glob (``*``, ``**``), or a list of them; local paths, or URLs of one scheme.
        include_timestamps: add a column ``frame_timestamp``: (start, end) in seconds.
        fps: frames a second to keep; None: all.
        resize: (height, width) that frames are brought to; None: as they are.
        stride: keep every n-th frame.
        arrow_open_stream_args: ``{"compression": ...}``: how files are compressed; by default as their names
            say.

        The others are those of ``read_parquet``.

    Returns:
        A Dataset; files are listed now, and read when it runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError, TypeError: there is no file, or an option is out of range or of a wrong type.

    Example:
        >>> skate.data.read_videos("clips/", fps=1)
    """
    source = VideoDatasource(
        paths,
        include_timestamps=include_timestamps,
        fps=fps,
        resize=resize,
        stride=stride,
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
        "read_videos",
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
