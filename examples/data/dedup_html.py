"""Pages that say nearly the same are dropped: the first of each set stays.

The pages are made here. Those of a set differ in a word, in their markup and in their navigation.
"""

import tempfile
from pathlib import Path

import skate.data

TEXTS = {
    "select": "A selection is the part of a picture that tools change. Draw a frame with the mouse, and what "
    "lies outside of it stays as it is, whatever you paint. Press Escape to select nothing again.",
    "layer": "Layers lie above each other like sheets of glass. What is painted on the upper ones hides what "
    "is below, and each can be moved, hidden, and deleted without a change of any other.",
    "export": "A file that is exported has one flat picture in it. Formats differ in what they keep: some "
    "lose detail, some lose transparency, and only the program's own format keeps the layers.",
}


def write_pages(folder):
    for name, text in TEXTS.items():
        (folder / f"{name}.html").write_text(f"<title>{name}</title><p>{text}</p>")
        words = text.split()
        words[len(words) // 2] = "sometimes"
        copy = f"<title>{name}</title><div><b>{' '.join(words)}</b></div>"
        (folder / f"{name}-old.html").write_text(copy)
    (folder / "news.html").write_text("<title>news</title><p>There is a new version.</p>")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        write_pages(Path(name))
        pages = skate.data.read_html(name, include_paths=True)
        kept = pages.near_duplicates("text", threshold=0.6)
        print(f"{pages.count()} pages, {kept.count()} kept")
        marked = pages.near_duplicates("text", threshold=0.6, mark="like")
        rows = marked.take_all()
        for row in rows:
            like = "" if row["like"] is None else f"is like {Path(rows[row['like']]['path']).name}"
            print(f"{Path(row['path']).name:16} {like}".rstrip())
