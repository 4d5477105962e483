"""Sound: a row a file, decoded by libsndfile, or by FFmpeg what that does not know."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.errors import FileReadError, FileTooLargeError, require
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile, check_not_empty
from skate.data._options import check_positive, check_type

#: Six hours of stereo sound at 48 kHz: 8 GB of floats. A longer one has an error in its header, or needs
#: a limit of its own.
MAX_SAMPLES = 2 * 6 * 3600 * 48_000
#: Programs that write a WAV file to a pipe write about this number, or more, in place of its length.
_UNKNOWN_BYTES = 0x7FFF_0000


class AudioDatasource(FileBasedDatasource):
    """Sound: columns ``amplitude`` (channels, samples; 32-bit floats between -1 and 1) and ``sample_rate``.

    Args:
        paths: see ``FileBasedDatasource``.
        sample_rate: samples a second that all are brought to, by soxr; None: as they are.
        mono: take the mean of the channels: (1, samples).
        max_samples: files with more samples, of all channels together, count as unreadable.
        **options: of ``FileBasedDatasource``.

    Raises:
        ImportError: soundfile is not installed; nor soxr, if ``sample_rate`` is given.
    """

    default_extensions = (
        "mp3", "wav", "aac", "flac", "ogg", "m4a", "wma", "alac", "aiff", "pcm", "amr", "opus", "ra", "rm",
        "au", "mid", "midi", "caf",
    )  # fmt: skip
    is_decoding = True
    limits = BundleLimits(most_bytes=16 << 20, most_files=256, least_bytes=1 << 20)
    rows_per_file = 1
    memory_per_byte = 8.0

    def __init__(
        self,
        paths: Any,
        *,
        sample_rate: int | None = None,
        mono: bool = False,
        max_samples: int = MAX_SAMPLES,
        file_extensions: Any = default_extensions,
        **options: Any,
    ) -> None:
        require("soundfile", "read_audio", "data-audio")
        if sample_rate is not None:
            check_positive("sample_rate", sample_rate)
            require("soxr", "read_audio(sample_rate=...)", "data-audio")
        check_type("mono", mono, bool, "True or False")
        check_positive("max_samples", max_samples)
        self._sample_rate = sample_rate
        self._mono = mono
        self._max_samples = max_samples
        super().__init__(paths, file_extensions=file_extensions, **options)

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        check_not_empty(file, "sound")
        with file.open() as stream:
            _check_whole(stream, file.path)
            samples, rate = self._decode(stream, file.path)
        if self._mono and samples.shape[1] > 1:
            samples = samples.mean(axis=1, keepdims=True, dtype="float32")
        if self._sample_rate is not None and rate != self._sample_rate:
            soxr = require("soxr", "read_audio(sample_rate=...)", "data-audio")
            samples, rate = soxr.resample(samples, rate, self._sample_rate), self._sample_rate
        yield {"amplitude": samples.T, "sample_rate": int(rate)}

    def _decode(self, stream: BinaryIO, path: str) -> tuple[Any, int]:
        """Return samples, (samples, channels), and their number a second."""
        soundfile = require("soundfile", "read_audio", "data-audio")
        try:
            with soundfile.SoundFile(stream) as sound:
                if sound.frames * sound.channels > self._max_samples:
                    raise FileTooLargeError(
                        path,
                        f"it has {sound.frames * sound.channels} samples, max_samples is {self._max_samples}",
                    )
                return sound.read(dtype="float32", always_2d=True), sound.samplerate
        except soundfile.LibsndfileError as error:
            if importlib.util.find_spec("av") is None:
                raise FileReadError(
                    path, f"{error}; FFmpeg may know it: pip install 'skate-runtime[data-video]'"
                ) from error
            stream.seek(0)
            try:
                return self._decode_by_ffmpeg(stream, path)
            except FileReadError:
                raise
            except Exception as other:  # also a MemoryError: broken headers ask for any number of bytes
                # Without the file object, which is in the whole text.
                reason = error.error_string.rstrip(".")
                raise FileReadError(path, f"libsndfile: {reason}; FFmpeg: {other}") from other

    def _decode_by_ffmpeg(self, stream: BinaryIO, path: str) -> tuple[Any, int]:
        import numpy as np

        av = require("av", "read_audio", "data-video")
        parts, count = [], 0
        with av.open(stream) as container:
            if not container.streams.audio:
                raise FileReadError(path, "it has no sound")
            sound = container.streams.audio[0]
            if sound.codec_context is None:
                raise FileReadError(path, "FFmpeg has no decoder for its sound")
            rate = sound.rate
            resampler = av.AudioResampler(format="fltp")
            for frame in container.decode(sound):
                for made in resampler.resample(frame):
                    parts.append(made.to_ndarray())
                    count += parts[-1].size
                if count > self._max_samples:
                    raise FileTooLargeError(path, f"it has more than max_samples={self._max_samples} samples")
        if not parts:
            raise FileReadError(path, "it has no samples")
        return np.concatenate(parts, axis=1).T, rate


def _check_whole(stream: BinaryIO, path: str) -> None:
    """Raise FileReadError if a WAV file is cut: libsndfile would return what is left of it."""
    head = stream.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        length = stream.seek(0, 2)
        position = 12
        while position + 8 <= length:
            stream.seek(position)
            name, size = struct.unpack("<4sI", stream.read(8))
            position += 8
            if name == b"data":
                if length - position < size < _UNKNOWN_BYTES:
                    raise FileReadError(
                        path, f"it is cut: {length - position} of {size} bytes of sound are there"
                    )
                break
            position += size + size % 2
    stream.seek(0)
