"""WebDataset: samples in tar files. Members whose names differ after the first dot alone are one sample."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from skate.data._io.files.bundles import BundleLimits
from skate.data._io.files.errors import NOT_OF_FILES, FileTooLargeError, require
from skate.data._io.files.file_source import FileBasedDatasource
from skate.data._io.files.output import Rejections
from skate.data._io.files.reading import InputFile, check_not_empty
from skate.data._io.readers.images import MAX_PIXELS, decode_image
from skate.data._options import check_positive, check_type

_NAME = re.compile(r"^((?:.*/)?[^./]+)[.]([^/]*)$")
_TEXTS = frozenset(("txt", "text", "transcript"))
_NUMBERS = frozenset(("cls", "cls2", "index", "inx", "id", "count"))
_JSON = frozenset(("json", "jsn"))
_IMAGES = frozenset(("jpg", "jpeg", "png", "ppm", "pgm", "pbm", "pnm", "webp", "bmp", "gif", "tif", "tiff"))
_MSGPACK = frozenset(("mp", "msg", "msgpack"))
_PICKLES = frozenset(("pickle", "pkl", "pyd"))


class _Member(tarfile.TarInfo):
    """A member, which notes if the file ends where a further one, or the end mark, should be."""

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> Any:
        """Return the next member."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            tarfile_.is_cut = tarfile_.offset > 0
            raise


class WebDatasetDatasource(FileBasedDatasource):
    """Samples of tar files: a row for each, a column for each extension, and ``__key__``.

    Args:
        paths: see ``FileBasedDatasource``.
        decoder: True: decode by extension: ``txt`` to text, ``cls``, ``index``, ... to int, ``json``,
            ``npy``, ``mp`` (msgpack), pictures to arrays; False or None: bytes. ``"PIL"``: pictures to
            Pillow's objects. A function from a sample (a dict) to a sample, or a list of these: they are
                called in turn.
        fileselect: which members are read: patterns, or a function from a name to a bool.
        filerename: another name of a member: a function, or pairs (regular expression, replacement).
        suffixes: extensions that are kept, or a function from an extension to a bool.
        verbose_open: print the name of each tar file when it is opened.
        expand_json: fields of ``json`` members become columns.
        allow_pickle: unpickle ``pickle`` and ``pkl`` members: that runs whatever they say, so only for files
            of yours. Without it they stay bytes.
        max_pixels: samples with larger pictures count as unreadable.
        **options: of ``FileBasedDatasource``.

    A sample that cannot be decoded is one letter with ``on_error="dead_letter"``; the others of its file are
    read.
    """

    is_decoding = True
    limits = BundleLimits(most_bytes=64 << 20, most_files=64, least_bytes=1 << 20)
    reads_whole_files = False
    memory_per_byte = 4.0

    def __init__(
        self,
        paths: Any,
        *,
        decoder: bool | str | Callable[..., Any] | Sequence[Any] | None = True,
        fileselect: Sequence[str] | Callable[[str], bool] | None = None,
        filerename: Callable[[str], str] | Sequence[tuple[str, str]] | None = None,
        suffixes: Sequence[str] | Callable[[str], bool] | None = None,
        verbose_open: bool = False,
        expand_json: bool = False,
        allow_pickle: bool = False,
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> None:
        check_type("verbose_open", verbose_open, bool, "True or False")
        check_type("expand_json", expand_json, bool, "True or False")
        check_type("allow_pickle", allow_pickle, bool, "True or False")
        check_positive("max_pixels", max_pixels)
        self._decoders = list(decoder) if isinstance(decoder, (list, tuple)) else [decoder]
        for step in self._decoders:
            if not (step is None or isinstance(step, (bool, str)) or callable(step)):
                raise TypeError(
                    f"decoder must be True, False, a format, a function or a list of these, not {step!r}"
                )
        for name, value in (("fileselect", fileselect), ("filerename", filerename), ("suffixes", suffixes)):
            if not (
                value is None
                or callable(value)
                or (isinstance(value, Sequence) and not isinstance(value, str))
            ):
                raise TypeError(f"{name} must be a list or a function, not {value!r}")
        self._fileselect = fileselect
        self._filerename = filerename
        self._suffixes = suffixes
        self._verbose_open = verbose_open
        self._expand_json = expand_json
        self._allow_pickle = allow_pickle
        self._max_pixels = max_pixels
        super().__init__(paths, **options)

    def get_name(self) -> str:
        return "WebDataset"

    def read_file(self, file: InputFile, rejections: Rejections) -> Iterator[pa.Table | Mapping[str, Any]]:
        check_not_empty(file, "tar file")
        if self._verbose_open:
            print(f"read_webdataset: {file.path}")
        for sample in self._samples(file):
            try:
                yield self._decoded(sample, file.path)
            except NOT_OF_FILES:
                raise
            except Exception as error:
                described = ValueError(f"sample {sample['__key__']!r}: {type(error).__name__}: {error}")
                described.__cause__ = error
                rejections.reject(described, file.path, sample)

    def _samples(self, file: InputFile) -> Iterator[dict[str, Any]]:
        """Yield the members of each sample as bytes; members of a sample lie side by side in a tar file."""
        sample: dict[str, Any] = {}
        with file.open_stream() as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                name = self._renamed(member.name)
                match = _NAME.match(name)
                if match is None or not _is_selected(self._fileselect, name):
                    continue
                key, suffix = match.group(1), match.group(2).lower()
                if not _is_selected(self._suffixes, suffix):
                    continue
                if sample and (sample["__key__"] != key or suffix in sample):
                    yield sample
                    sample = {}
                if not sample:
                    sample = {"__key__": key}
                sample[suffix] = self._content(tar, member, file.path)
            is_cut = getattr(tar, "is_cut", False)
        if sample:
            yield sample
        if is_cut:
            raise EOFError("it ends without the zeros that end a tar file: it is cut, members may be missing")

    def _content(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bytes:
        if self._max_file_bytes is not None and member.size > self._max_file_bytes:
            raise FileTooLargeError(
                path,
                f"its member {member.name} has {member.size} bytes, max_file_bytes is {self._max_file_bytes}",
            )
        content = tar.extractfile(member)
        assert content is not None
        data = content.read()
        if len(data) != member.size:
            raise EOFError(f"it ends within {member.name}: {len(data)} of {member.size} bytes are there")
        return data

    def _renamed(self, name: str) -> str:
        if self._filerename is None:
            return name
        if callable(self._filerename):
            return str(self._filerename(name))
        for pattern, replacement in self._filerename:
            name = re.sub(pattern, replacement, name)
        return name

    def _decoded(self, sample: dict[str, Any], path: str) -> dict[str, Any]:
        made = sample
        for step in self._decoders:
            if step is None or step is False:
                continue
            made = step(made) if callable(step) else self._by_extension(made, step, path)
            if not isinstance(made, dict):
                raise TypeError(f"decoder must return a sample, a dict, not {made!r:.80}")
        if self._expand_json:
            expanded = dict(made)
            for name, value in made.items():
                if name.rpartition(".")[2] in _JSON:
                    fields = json.loads(value) if isinstance(value, (bytes, str)) else value
                    if not isinstance(fields, dict):
                        raise TypeError(f"expand_json: member {name!r} is no object but {fields!r:.80}")
                    del expanded[name]
                    expanded.update(fields)
            made = expanded
        return made

    def _by_extension(self, sample: dict[str, Any], step: Any, path: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in sample.items():
            is_raw = isinstance(value, bytes) and not name.startswith("__")
            try:
                made[name] = self._member(name.rpartition(".")[2], value, step, path) if is_raw else value
            except NOT_OF_FILES:
                raise
            except Exception as error:
                raise ValueError(f"member {name!r}: {error}") from error
        return made

    def _member(self, extension: str, data: bytes, step: Any, path: str) -> Any:
        if extension in _TEXTS:
            return data.decode()
        if extension in _NUMBERS:
            return int(data)
        if extension in _JSON:
            return json.loads(data)
        if extension in _MSGPACK:
            return msgspec.msgpack.decode(data)
        if extension == "npy":
            import numpy as np

            return np.load(io.BytesIO(data), allow_pickle=self._allow_pickle)
        if extension in _IMAGES:
            return self._picture(data, step, path)
        if extension in _PICKLES and self._allow_pickle:
            import pickle

            return pickle.loads(data)
        return data

    def _picture(self, data: bytes, step: Any, path: str) -> Any:
        image_module = require("PIL.Image", "read_webdataset", "data-images")
        if isinstance(step, str) and step.upper() == "PIL":
            image = image_module.open(io.BytesIO(data))
            image.load()
            return image
        return decode_image(io.BytesIO(data), path, max_pixels=self._max_pixels)


def _is_selected(wanted: Sequence[str] | Callable[[str], bool] | None, name: str) -> bool:
    if wanted is None:
        return True
    if callable(wanted):
        return bool(wanted(name))
    return any(fnmatch.fnmatch(name, pattern) or name == pattern.lstrip(".") for pattern in wanted)
