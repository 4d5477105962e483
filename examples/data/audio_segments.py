"""Sound files become segments: one row for each stretch that is louder than silence.

The files are made here: tones with pauses between them.
"""

import tempfile
from pathlib import Path

import numpy as np
import soundfile

import skate.data

RATE, FRAME = 8_000, 800
#: Seconds of tone and of silence, in turns.
FILES = {"one.wav": [1.0], "two.wav": [0.5, 0.5, 1.5], "pause.flac": [0.0, 0.4, 0.8, 0.4, 0.2]}


def write_files(folder):
    for name, lengths in FILES.items():
        parts = []
        for number, seconds in enumerate(lengths):
            loudness = 0.5 if number % 2 == 0 else 0.0
            parts.append(loudness * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE))
        soundfile.write(folder / name, np.concatenate(parts), RATE)
    (folder / "broken.wav").write_bytes(b"RIFF")


def segments(row):
    """Yield where frames of a tenth of a second are louder than silence."""
    sound = row["amplitude"][0]
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    loud = np.concatenate([[False], np.sqrt((frames**2).mean(axis=1)) > 0.05, [False]])
    begins, ends = np.flatnonzero(loud[1:] & ~loud[:-1]), np.flatnonzero(loud[:-1] & ~loud[1:])
    for begin, end in zip(begins, ends, strict=True):
        yield {"file": Path(row["path"]).name, "begin_s": begin * FRAME / RATE, "end_s": end * FRAME / RATE}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name))
        sounds = skate.data.read_audio(
            name, sample_rate=RATE, mono=True, include_paths=True, on_error="dead_letter"
        )
        found = sounds.flat_map(segments).materialize()
        for row in found.sort(["file", "begin_s"]).iter_rows():
            print(f"{row['file']:10} {row['begin_s']:.1f} s to {row['end_s']:.1f} s")
        print("unreadable:", [Path(row["path"]).name for row in found.dead_letters().iter_rows()])
