"""Videos: a row a frame, decoded by FFmpeg."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.errors import FileReadError, FileTooLargeError, require
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile, check_not_empty
from skate.data._io.readers.images import MAX_PIXELS, check_size_option
from skate.data._options import check_positive, check_type


class VideoDatasource(FileBasedDatasource):
    """Frames of videos: columns ``frame`` (height, width, 3; RGB) and ``frame_index``, a row for each frame.

    Args:
        paths: see ``FileBasedDatasource``.
        include_timestamps: add a column ``frame_timestamp``: (start, end) of each frame in seconds.
        fps: frames a second to keep: for each 1/fps of a second the first frame in it; None: all.
        resize: (height, width) that frames are brought to; None: as they are.
        stride: keep every n-th frame. With ``fps``: of those that it keeps.
        max_pixels: files with larger frames count as unreadable.
        **options: of ``FileBasedDatasource``.

    Raises:
        ImportError: av (PyAV) is not installed.
    """

    default_extensions = (
        "mp4", "mkv", "mov", "avi", "wmv", "flv", "webm", "m4v", "3gp", "mpeg", "mpg", "ts", "ogv", "rm",
        "rmvb", "vob", "asf", "f4v", "m2ts", "mts", "divx", "xvid", "mxf",
    )  # fmt: skip
    is_decoding = True
    limits = BundleLimits(most_bytes=16 << 20, most_files=64, least_bytes=1 << 20)
    reads_whole_files = False
    memory_per_byte = 100.0

    def __init__(
        self,
        paths: Any,
        *,
        include_timestamps: bool = False,
        fps: float | None = None,
        resize: tuple[int, int] | None = None,
        stride: int = 1,
        max_pixels: int = MAX_PIXELS,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        require("av", "read_videos", "data-video")
        check_type("include_timestamps", include_timestamps, bool, "True or False")
        check_positive("fps", fps, integer=False)
        check_type("stride", stride, int, "a positive number")
        check_positive("stride", stride)
        check_positive("max_pixels", max_pixels)
        self._include_timestamps = include_timestamps
        self._fps = fps
        self._resize = check_size_option("resize", resize)
        self._stride = stride
        self._max_pixels = max_pixels
        super().__init__(paths, file_extensions=file_extensions, **options)

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        check_not_empty(file, "video")
        try:
            yield from self._rows(file)
        except MemoryError as error:  # broken headers ask for any number of bytes
            raise FileTooLargeError(
                file.path, f"FFmpeg asked for more memory than there is: {error}"
            ) from error

    def _rows(self, file: InputFile) -> Iterator[dict[str, Any]]:
        av = require("av", "read_videos", "data-video")
        with file.open() as stream, av.open(stream) as container:
            if not container.streams.video:
                raise FileReadError(file.path, "it has no pictures")
            video = container.streams.video[0]
            if video.codec_context is None:
                raise FileReadError(file.path, "FFmpeg has no decoder for its pictures")
            video.codec_context.thread_count = 1  # a task has one CPU; other files are other tasks
            pixels = (video.codec_context.width or 0) * (video.codec_context.height or 0)
            if pixels > self._max_pixels:
                raise FileTooLargeError(
                    file.path, f"its frames have {pixels} pixels, max_pixels is {self._max_pixels}"
                )
            yield from self._frames(container, video, file.path)

    def _frames(self, container: Any, video: Any, path: str) -> Iterator[dict[str, Any]]:
        rate = float(video.average_rate or video.guessed_rate or 0) or None
        kept = seen = 0
        first = next_time = None
        for index, frame in enumerate(container.decode(video)):
            seen = index + 1
            if frame.width * frame.height > self._max_pixels:
                raise FileTooLargeError(
                    path,
                    f"frame {index} has {frame.width} x {frame.height} pixels, "
                    f"max_pixels is {self._max_pixels}",
                )
            start = frame.time if frame.time is not None else (index / rate if rate else 0.0)
            if self._fps is not None:
                if first is None or next_time is None:
                    first = next_time = start
                if start < next_time - 1e-9:
                    continue
                next_time = first + (math.floor((start - first) * self._fps + 1e-6) + 1) / self._fps
            kept += 1
            if (kept - 1) % self._stride:
                continue
            if self._resize is not None:
                frame = frame.reformat(width=self._resize[1], height=self._resize[0])
            row = {"frame": frame.to_ndarray(format="rgb24"), "frame_index": index}
            if self._include_timestamps:
                length = float(frame.duration * frame.time_base) if getattr(frame, "duration", None) else 0.0
                length = length or (1 / rate if rate else 0.0)
                row["frame_timestamp"] = [float(start), float(start) + length]
            yield row
        if not seen:
            raise FileReadError(path, "no frame of it could be decoded")
