"""The command line: what the user asked for, in which order it is done, and what they are told."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from demo import ocr, output, pictures, search, sheet, sources
from demo.arguments import cpus, positive
from demo.baselines import read_with_loop, read_with_multiprocessing
from demo.errors import DemoError
from demo.pipeline import PLOT_NAME, forget_unfinished, read_with_skate
from demo.report import Run, comparison, measure

DEFAULT_COUNT = 64
DEFAULT_OUT = Path("demo-output")

NOTHING_FOUND = 1
ERROR = 2
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

_EXAMPLES = """\
examples:
  python -m demo                        read 64 of the screenshots in GIMP's manual
  python -m demo --search layer         find pictures by what is written in them
  python -m demo --folder ~/Pictures    read your own
  python -m demo --chaos                kill a process on the way: no picture is lost
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        if options.search is not None:
            return _search(options, console)
        return _read(options, console)
    except DemoError as error:
        _complain(f"error: {error}")
        return ERROR
    except KeyboardInterrupt:
        _complain("Stopped; the same command goes on with the pictures that are left.")
        return INTERRUPTED


def _search(options: argparse.Namespace, console: Console) -> int:
    readings = output.load(options.out)
    hits = search.find_text(readings, options.search)
    if not hits:
        _say(console, f"nothing found: {options.search!r} is in none of the {len(readings):,} pictures")
        return NOTHING_FOUND
    search.print_hits(hits, options.search, console)
    return 0


def _read(options: argparse.Namespace, console: Console) -> int:
    """Read the pictures with skate, write what was found, then do the same work in other ways."""
    say = functools.partial(_say, console)
    model = ocr.describe()
    folder = (options.folder or sources.default_folder(say)).expanduser()
    found = pictures.find(folder)
    count = None if options.all else options.count or DEFAULT_COUNT
    paths = [str(path) for path in pictures.choose(found, count, options.seed)]
    output.prepare_folder(options.out)
    # More readers than pictures would only load models for nothing.
    workers = min(options.workers, len(paths))

    chosen = (
        f"{len(paths):,} of {len(found):,}, seed {options.seed}"
        if len(paths) < len(found)
        else f"{len(paths):,}"
    )
    say(f"Pictures  {_short(folder)} ({chosen})")
    say(f"Model     {model}")
    say(f"Workers   {workers} readers with a model each")

    ours = _read_with_skate(paths, workers, options, say)
    _write(ours, options.out, say)
    forget_unfinished(options.out)
    if not options.no_baselines:
        try:
            _compare(ours, paths, workers, console)
        except KeyboardInterrupt:
            _complain("Stopped comparing; the output above is complete.")
            return INTERRUPTED
    failed = sum(reading.error is not None for reading in ours.readings.values())
    if failed == len(paths):
        raise DemoError("none of the pictures could be read; the column `error` of the output says why")
    return 0


def _read_with_skate(
    paths: Sequence[str], workers: int, options: argparse.Namespace, say: Callable[[str], None]
) -> Run:
    began = time.perf_counter()
    outcome = read_with_skate(paths, workers, options.out, chaos=options.chaos, say=say)
    wall_s = time.perf_counter() - began
    if outcome.resumed:
        say(f"Resumed   {outcome.resumed:,} pictures were read by an earlier run")
    if outcome.why:
        say(f"Why       {outcome.why}")
        say(f"Wrote {_short(options.out / PLOT_NAME)}: the run as a picture")
    readings = {reading.path: reading for reading in outcome.readings}
    return Run("skate", str(workers), readings, outcome.first_s, wall_s, outcome.resumed)


def _write(run: Run, out: Path, say: Callable[[str], None]) -> None:
    readings = [run.readings[path] for path in sorted(run.readings)]
    lines = sum(len(reading.lines) for reading in readings)
    table = output.save(readings, out)
    title = f"{len(readings):,} pictures, {lines:,} lines of text, {run.rate:.2f} pictures/s with skate"
    picture = sheet.save(readings, out, title)
    for reading in readings:
        if reading.error is not None:
            say(f"{_short(Path(reading.path))}: {reading.error}")
    say(f"Wrote {_short(table)}: {len(readings):,} pictures, {lines:,} lines of text")
    say(f"Wrote {_short(picture)}")
    where = "" if out == DEFAULT_OUT else f" --out {_short(out)}"
    say(f"Now search it: python -m demo --search WORD{where}")


def _compare(ours: Run, paths: Sequence[str], workers: int, console: Console) -> None:
    """Do the same work without skate, and print all figures."""
    pool = measure(
        "multiprocessing",
        str(workers),
        len(paths),
        console,
        lambda: read_with_multiprocessing(paths, workers),
    )
    loop = measure("plain loop", "1", len(paths), console, lambda: read_with_loop(paths))
    console.print()
    console.print(comparison([ours, pool, loop]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Make a folder of screenshots searchable: read the text in every picture with\n"
        "an OCR model, on all cores, with skate.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_argument_group("which pictures")
    which.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="a folder of your own (default: the screenshots in GIMP's manual)",
    )
    amount = which.add_mutually_exclusive_group()
    amount.add_argument(
        "--count",
        type=positive,
        metavar="N",
        help=f"how many, chosen by the seed (default: {DEFAULT_COUNT})",
    )
    amount.add_argument("--all", action="store_true", help="every picture in the folder")
    which.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, other pictures (default: 0)"
    )

    how = parser.add_argument_group("how to read them")
    how.add_argument(
        "--workers",
        type=positive,
        default=cpus(),
        metavar="N",
        help="readers (default: one for each CPU, here %(default)s)",
    )
    how.add_argument(
        "--chaos", action="store_true", help="kill a reader's process in the middle of a picture"
    )
    how.add_argument(
        "--no-baselines",
        action="store_true",
        help="leave out the same work with multiprocessing and in a plain loop",
    )

    result = parser.add_argument_group("the result")
    result.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="DIR",
        help="where it is written (default: ./%(default)s)",
    )
    result.add_argument(
        "--search",
        type=_word,
        metavar="WORD",
        help="read nothing; find pictures in the last result by their text",
    )
    return parser


def _word(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("nothing to search for")
    return text


def _short(path: Path) -> str:
    """The path as a person would type it from here."""
    path = path.absolute()
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path != base and path.is_relative_to(base):
            return prefix + str(path.relative_to(base))
    return str(path)


def _say(console: Console, message: str) -> None:
    console.print(message, soft_wrap=True, markup=False)


def _complain(message: str) -> None:
    Console(stderr=True, highlight=False).print(message, soft_wrap=True, markup=False, style="red")
