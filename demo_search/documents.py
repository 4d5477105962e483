"""Documents for a user who names no folder: manuals in Debian packages, or what Python itself ships."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

from demo.debian import UnavailableError, cache, fetch
from demo.errors import DemoError

#: Name and size of the download. The last three have the same text as HTML and as PDF.
PACKAGES = (
    ("gimp-help-en", "50 MB"),
    ("developers-reference", "1 MB"),
    ("maint-guide", "1 MB"),
    ("debian-faq", "1 MB"),
)
SUFFIXES = (".html", ".htm", ".pdf", ".pdf.gz")


def find(folder: Path) -> list[str]:
    """Return the absolute path of every document below `folder`, sorted; raise DemoError if there is none."""
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}")
    found = sorted(
        str(path)
        for path in folder.resolve().rglob("*")
        if path.name.lower().endswith(SUFFIXES) and path.is_file()
    )
    if not found:
        raise DemoError(f"no documents in {folder}: looked for {', '.join(SUFFIXES)}, also in its subfolders")
    return found


def default_folders(say: Callable[[str], None]) -> list[Path]:
    """Return folders with documents, fetched at the first use. `say` hears of every fallback, and why."""
    folders = []
    for package, size in PACKAGES:
        try:
            folders.append(fetch(package, size, say))
        except UnavailableError as error:
            say(f"No documents from Debian's package {package}: {error}")
            if "not on this machine" in str(error):
                break
    if folders:
        return folders
    say("Taking the reference of the Python language, which Python ships.")
    return [_python_reference()]


def _python_reference() -> Path:
    """Write the topics that ``help()`` knows as HTML pages, once."""
    from pydoc_data.topics import topics

    folder = cache() / "python-reference"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in topics.items():
            title, body = html.escape(name), html.escape(text)
            page = f"<html><head><title>{title}</title></head><body><pre>{body}</pre></body></html>\n"
            (folder / f"{name}.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise DemoError(f"cannot write to {folder}: {error.strerror or error}") from error
    return folder
