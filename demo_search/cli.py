"""The command line: what the user asked for, in which order it is done, and what they are told."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from demo.arguments import cpus, positive
from demo.errors import DemoError
from rich.console import Console

from demo_search import answers, documents, embedding, index

DEFAULT_OUT = Path("demo-search-output")
DEFAULT_QUESTION = "how do I select a region"

NOTHING_FOUND = 1
ERROR = 2
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended

_EXAMPLES = """\
examples:
  python -m demo_search how do I select a region     ask GIMP's manual and three of Debian's
  python -m demo_search --folder ~/papers retrieval  index your own documents, and ask them
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    question = " ".join(options.question).strip() or DEFAULT_QUESTION
    try:
        model = embedding.describe()
        if options.folder is not None or options.rebuild or not (options.out / index.INDEX_NAME).is_dir():
            _build(options, model, lambda message: console.print(message, soft_wrap=True, markup=False))
        found = index.ask(question, options.out, options.top)
    except DemoError as error:
        _complain(f"error: {error}")
        return ERROR
    except KeyboardInterrupt:
        _complain("Stopped; no index was written.")
        return INTERRUPTED
    if not found:
        _complain("nothing found: the documents have no text")
        return NOTHING_FOUND
    console.print(f"\n{question}\n", style="bold", markup=False)
    answers.print_answers(found, question, console)
    return 0


def _build(options: argparse.Namespace, model: str, say: Callable[[str], None]) -> None:
    folders = [options.folder.expanduser()] if options.folder else documents.default_folders(say)
    found = [path for folder in folders for path in documents.find(folder)]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"cannot write to {options.out}: {error.strerror or error}") from error
    say(f"Documents {len(found):,} in {', '.join(str(folder) for folder in folders)}")
    say(f"Model     {model}")
    began = time.perf_counter()
    built = index.build(found, options.workers, options.out)
    for path, reason in built.unreadable:
        say(f"{path}: {reason}")
    dropped = built.chunks - built.kept
    say(
        f"Index     {built.kept:,} chunks of text, without {dropped:,} near duplicates, "
        f"in {time.perf_counter() - began:.1f} s"
    )
    say(f"Why       {built.why}")
    say(f"Wrote {options.out / index.INDEX_NAME}, and {options.out / index.PLOT_NAME}: the run as a picture")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo_search",
        description="Ask documents a question: PDF and HTML become an index of short chunks of text,\n"
        "each with what it is about as a vector, and the closest to the question are shown.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", nargs="*", help=f"words (default: {DEFAULT_QUESTION})")
    parser.add_argument("--top", type=positive, default=3, metavar="N", help="answers (default: 3)")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="documents of your own (default: manuals in Debian packages)",
    )
    parser.add_argument("--rebuild", action="store_true", help="make the index again")
    parser.add_argument(
        "--workers",
        type=positive,
        default=cpus(),
        metavar="N",
        help="processes that embed (default: one for each CPU, here %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="DIR",
        help="where the index is (default: ./%(default)s)",
    )
    return parser


def _complain(message: str) -> None:
    Console(stderr=True, highlight=False).print(message, soft_wrap=True, markup=False, style="red")
