"""The skate variant: a pipeline of `skate.data`, from the paths of pictures to readings in Parquet.

    files ──► decode (tasks) ──► Reader (pool of processes, an OCR model each) ──► unfinished/*.parquet
                 └── a picture that cannot be decoded becomes a dead letter: its row, and why

A picture that has been read is on disk. A run that was stopped or killed goes on with the others.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import skate
import skate.data
from demo.errors import DemoError
from demo.ocr import Model
from demo.pictures import decode
from demo.readings import Line, Reading
from skate.data.datasink import PlanChanged

#: The picture of the run.
PLOT_NAME = "run.svg"
#: Pictures that have been read, until all have.
UNFINISHED = "unfinished"
#: Most parts that a run is cut into. A part is what a run that goes on need not read again.
MOST_PARTS = 512
#: Seconds between looks for a reader in the middle of a picture, while one is to be killed.
CHAOS_LOOK_S = 0.05


@dataclass(frozen=True)
class Outcome:
    """What a run found, and what it tells of itself."""

    #: One for each path.
    readings: list[Reading]
    #: Pictures that an earlier run had read.
    resumed: int
    #: Seconds until the first reading was on disk; 0 if an earlier run had read all.
    first_s: float
    #: What limited the run, in a sentence; empty if an earlier run had read all.
    why: str


class Reader:
    """Holds an OCR model and reads decoded pictures. With `notes`, it notes there what it is reading."""

    def __init__(self, notes: str | None = None) -> None:
        self._model = Model()
        self._notes = Path(notes, str(os.getpid())) if notes else None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Read a picture."""
        if self._notes is not None:
            with self._notes.open("a") as notes:
                notes.write(f"{row['path']}\n")
        reading = self._model.read(row["path"], row["pixels"])
        return {
            "path": reading.path,
            "width": reading.width,
            "height": reading.height,
            "lines": [
                {"text": line.text, "confidence": line.confidence, "box": line.box} for line in reading.lines
            ],
            "error": reading.error,
        }


def decode_row(row: dict[str, Any]) -> dict[str, Any]:
    """Add the pixels to a row with a path."""
    return {"path": row["path"], "pixels": decode(row["path"])}


def read_with_skate(
    paths: Sequence[str], workers: int, out: Path, *, chaos: bool, say: Callable[[str], None]
) -> Outcome:
    """Start the runtime, read each picture, and stop the runtime.

    Readings are kept in a folder of `out` until `forget_unfinished` removes it, so that a run that is stopped
    can go on. With `chaos`, a reader's process is killed in the middle of a picture; `say` then tells which.
    """
    began = time.perf_counter()
    try:
        skate.init(num_cpus=max(workers, os.cpu_count() or 1), log_to_driver=False)
        with ExitStack() as stack:
            notes = stack.enter_context(tempfile.TemporaryDirectory()) if chaos else None
            pictures = _pipeline(paths, workers, notes)
            if notes is not None:
                stack.enter_context(_Chaos(Path(notes), len(paths), say))
            started = time.perf_counter()
            _write(pictures, out, say)
        return _outcome(pictures, paths, out, started - began)
    except skate.exceptions.RayError as error:
        # Readers that die are replaced, and their pictures read again, unless it happens again and again.
        raise DemoError(f"the pictures cannot be read: {' '.join(str(error).split())[:300]}") from error
    finally:
        skate.shutdown()


def forget_unfinished(out: Path) -> None:
    """Remove what a run keeps to go on."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def _pipeline(paths: Sequence[str], workers: int, notes: str | None = None) -> skate.data.Dataset:
    """Return the data set of all readings; nothing runs yet."""
    files = skate.data.files(list(paths), detect_type=False, override_num_blocks=min(len(paths), MOST_PARTS))
    return files.map(decode_row, on_error="dead_letter").map(
        Reader,
        fn_constructor_args=(notes,),
        num_cpus=1,
        compute=skate.data.ActorPoolStrategy(size=workers),
    )


def _write(pictures: skate.data.Dataset, out: Path, say: Callable[[str], None]) -> None:
    """Read what no earlier run has read, and write it."""
    folder = str(out / UNFINISHED)
    try:
        pictures.write_parquet(folder, mode="overwrite", resume=True)
    except PlanChanged:
        say("An earlier run that was stopped read other pictures, or in another way: it is dropped.")
        forget_unfinished(out)
        pictures.write_parquet(folder, mode="overwrite", resume=True)


def _outcome(pictures: skate.data.Dataset, paths: Sequence[str], out: Path, started_s: float) -> Outcome:
    """Collect readings, the reasons for which there are none, and what the run tells of itself."""
    found = {row["path"]: _reading(row) for row in skate.data.read_parquet(str(out / UNFINISHED)).iter_rows()}
    stages = pictures.get_stats_summary().get("stages", [])
    errors = _errors(pictures)
    readings = [found.get(path) or Reading(path, error=errors.get(path, "was unreadable")) for path in paths]
    if not stages:
        return Outcome(readings, len(paths), 0.0, "")
    pictures.plot_run(out / PLOT_NAME)
    last = f"{len(stages) - 1}."  # the stage that writes: its tasks' names begin with its number
    ended = [
        event["ts"] + event["dur"]
        for event in pictures.timeline() or []
        if event["ph"] == "X" and event["args"]["task"].startswith(last)
    ]
    first_s = started_s + min(ended, default=0.0) / 1e6
    return Outcome(readings, len(paths) - stages[0]["rows_in"], first_s, pictures.why().text)


def _errors(pictures: skate.data.Dataset) -> dict[str, str]:
    """Return by path why pictures could not be decoded."""
    return {
        letter["path"]: letter["error"].removeprefix("UndecodableError: ")
        for letter in pictures.dead_letters().iter_rows()
    }


def _reading(row: dict[str, Any]) -> Reading:
    lines = tuple(
        Line(line["text"], line["confidence"], tuple((x, y) for x, y in line["box"])) for line in row["lines"]
    )
    return Reading(row["path"], row["width"], row["height"], lines, row["error"])


class _Chaos:
    """Kills the process of a reader, in the middle of a picture, when a quarter of them has been read.

    Readers note what they read in files that are named for their processes.
    """

    def __init__(self, notes: Path, total: int, say: Callable[[str], None]) -> None:
        self._notes = notes
        self._total = total
        self._say = say
        self._killed: tuple[int, str] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="chaos", daemon=True)

    def __enter__(self) -> _Chaos:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is not None:
            return
        if self._killed is None:
            self._say("chaos: the pictures were read too fast to kill a reader in the middle of one")
        else:
            pid, path = self._killed
            self._say(f"chaos: killed a reader (pid {pid}) while it read {Path(path).name}")

    def _watch(self) -> None:
        while self._killed is None and not self._stop.wait(CHAOS_LOOK_S):
            notes = {path: path.read_text().splitlines() for path in self._notes.iterdir()}
            begun = sum(map(len, notes.values()))
            if begun <= self._total // 4:
                continue
            # The last one to begin will be at it for longest.
            last = max(notes, key=lambda path: path.stat().st_mtime_ns)
            os.kill(int(last.name), signal.SIGKILL)
            self._killed = int(last.name), notes[last][-1]
