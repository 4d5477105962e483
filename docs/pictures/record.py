"""Record ``at-work.svg``: run the commands below in a terminal of their own, and draw what they print.

``python docs/pictures/record.py`` from the root of the repository, with skate installed. Nothing in the
picture is written by hand: the folder of the session and the ids are those of the run.
"""

from __future__ import annotations

import html
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLUMNS, FONT_PX, LINE_PX, CHARACTER_PX, MARGIN_PX = 124, 14, 20, 8.43, 18
#: The program that runs while ``skate`` looks at its session.
BACKGROUND = "pages.py"
COMMANDS = ("python first.py", "skate status", "skate list actors", "skate why")


def run_in_terminal(command: str) -> list[str]:
    """Return the lines that a command prints into a terminal of ``COLUMNS`` columns."""
    ours, theirs = pty.openpty()
    program, *arguments = command.split()
    child = subprocess.Popen(
        [sys.executable, *(["-m", program] if program == "skate" else []), *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": str(COLUMNS)},
    )  # fmt: skip
    os.close(theirs)
    printed = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        printed += piece
    os.close(ours)
    if child.wait() != 0:
        raise RuntimeError(f"{command} failed: {printed.decode()}")
    return printed.decode().replace("\r", "").rstrip("\n").split("\n")


def as_svg(lines: list[str]) -> str:
    """Draw lines of a terminal; those that begin with ``$`` are commands."""
    width, height = COLUMNS * CHARACTER_PX + 2 * MARGIN_PX, len(lines) * LINE_PX + 2 * MARGIN_PX
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{FONT_PX}">',
        '<rect width="100%" height="100%" rx="8" fill="#17202b"/>',
    ]
    for number, line in enumerate(lines, start=1):
        color = "#8fd3a5" if line.startswith("$") else "#e4e8ec"
        drawn.append(
            f'<text x="{MARGIN_PX}" y="{MARGIN_PX + number * LINE_PX - 5}" fill="{color}" '
            f'xml:space="preserve">{html.escape(line)}</text>'
        )
    return "\n".join([*drawn, "</svg>", ""])


def main() -> None:
    """Run the commands in a folder of their own and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder  # `skate` finds no other session of this machine there
        for program in HERE.glob("*.py"):
            shutil.copy(program, folder)
        os.chdir(folder)
        lines = run_all()
    (HERE / "at-work.svg").write_text(as_svg(lines))


def run_all() -> list[str]:
    """Run ``COMMANDS`` one by one, and return them with what they print."""
    lines: list[str] = []
    program: subprocess.Popen[bytes] | None = None
    for command in COMMANDS:
        if program is None and command.startswith("skate"):
            program = subprocess.Popen([sys.executable, BACKGROUND])
            lines += [f"$ python {BACKGROUND} &", ""]
            time.sleep(6)  # some of its tasks have finished by then, others have not
        lines += [f"$ {command}", *run_in_terminal(command), ""]
    assert program is not None
    program.wait()
    return lines[:-1]


if __name__ == "__main__":
    main()
