"""The text of an HTML page, in lines as a browser shows them.

Paragraphs, headings, list items and their like have lines of their own; ``<b>`` or ``<a>`` are a part of the
line around them. White space within a line is one space, but for ``<pre>``. The cells of a row of a table are
in one line, with tabs between them.
"""

from __future__ import annotations

import re
from typing import Any

#: Control characters, which no text has: the end of a line and of a cell, and white space that stays.
_LINE, _CELL, _SPACE, _TAB = "\x1e", "\x1d", "\x1f", "\x1c"

_PREFORMATTED = frozenset({"listing", "plaintext", "pre", "textarea", "xmp"})
_BLOCKS = """
    address article aside blockquote br caption center dd details dialog dir div dl dt fieldset figcaption
    figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu nav ol optgroup option p search
    section select summary table tr ul
"""
#: Marks before and after the text of an element; elements that are not here are a part of their line.
_AROUND = {
    **dict.fromkeys([*_BLOCKS.split(), *_PREFORMATTED], (_LINE, _LINE)),
    "td": ("", _CELL),
    "th": ("", _CELL),
}
#: But for single spaces, which are most of it.
_WHITE_SPACE = re.compile(r"[ \t\n\r\f]{2,}|[\t\n\r\f]")
_KEPT = str.maketrans({"\n": _LINE, " ": _SPACE, "\t": _TAB})
_FREED = str.maketrans({_SPACE: " ", _TAB: "\t"})


def lines_of(body: Any) -> list[str]:
    """Return the lines of a page, without those that are empty.

    Args:
        body: the node, of a LexborHTMLParser; None: there is none.
    """
    if body is None:
        return []
    lines = []
    for line in _WHITE_SPACE.sub(" ", "".join(_pieces(body))).split(_LINE):
        text = line.strip(" ")
        if _CELL in text:
            text = "\t".join(cell.strip(" ") for cell in text.split(_CELL)).strip("\t")
        if _SPACE in text or _TAB in text:
            text = text.translate(_FREED).rstrip()
        if text:
            lines.append(text)
    return lines


def _pieces(body: Any) -> list[str]:
    """Return texts and marks in their order: without recursion, as pages may be nested a thousand times."""
    found: list[str] = []
    above: list[tuple[Any, str]] = []
    node = body.child
    while node is not None:
        child = None
        if node.is_element_node:
            tag = node.tag
            before, after = _AROUND.get(tag, ("", ""))
            found.append(before)
            if tag in _PREFORMATTED:
                found.append(node.text(separator="").replace("\r\n", "\n").translate(_KEPT))
            else:
                child = node.child
            if child is not None:
                above.append((node, after))
                node = child
                continue
            found.append(after)
        elif node.is_text_node:
            found.append(node.text_content)
        following = node.next
        while following is None and above:
            node, after = above.pop()
            found.append(after)
            following = node.next
        node = following
    return found
