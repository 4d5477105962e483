"""The contact sheet: every picture with the found text drawn over the place where it was found."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from demo.errors import DemoError
from demo.pictures import UndecodableError, decode
from demo.readings import Line, Reading

SHEET_NAME = "contact-sheet.png"
#: A sheet with more pictures than this is one that no viewer likes to open.
MAX_PICTURES = 120

_COLUMNS = 5
_WIDTH = 420  # of a column, in pixels
_MAX_HEIGHT = 520
_SMALLEST, _LARGEST = 6.0, 36.0  # of the text drawn, in pixels
_MAX_SCALE = 2.0  # for tiny pictures, such as icons
_GAP = 16
_CAPTION = 22
_HEADER = 74

_PAPER = "#f2f1ec"
_INK = "#22262b"
_FAINT = "#7b7f86"
_SURE = "#0b7a4b"
_UNSURE = "#c25700"
_FAILED = "#b3261e"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def save(readings: Sequence[Reading], folder: Path, title: str) -> Path:
    """Draw the first pictures of `readings` into a PNG."""
    cards = [_card(reading) for reading in readings[:MAX_PICTURES]]
    columns = min(_COLUMNS, len(cards))
    places, height = _layout([card.height for card in cards], columns)
    sheet = Image.new("RGB", (_GAP + columns * (_WIDTH + _GAP), _HEADER + height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, fill=_INK, font=_font(26))
    legend = "Each line of text that was found stands where it was found. Green: sure. Orange: below 90%."
    if len(readings) > MAX_PICTURES:
        legend += f" The first {MAX_PICTURES} of {len(readings):,} pictures."
    draw.text((_GAP, _GAP + 32), legend, fill=_FAINT, font=_font(15))
    for card, place in zip(cards, places, strict=True):
        sheet.paste(card, place)
    target = folder / SHEET_NAME
    try:
        sheet.save(target)
    except OSError as error:
        raise DemoError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _layout(heights: Sequence[int], columns: int) -> tuple[list[tuple[int, int]], int]:
    """Put each card into the column that is shortest so far; return the places and the height used."""
    filled = [0] * columns
    places = []
    for height in heights:
        column = filled.index(min(filled))
        places.append((_GAP + column * (_WIDTH + _GAP), _HEADER + filled[column]))
        filled[column] += height + _GAP
    return places, max(filled)


def _card(reading: Reading) -> Image.Image:
    """One picture with its caption."""
    if reading.error is not None:
        return _captioned(_error_picture(reading.error), reading, _FAILED, "error")
    try:
        picture = Image.fromarray(decode(reading.path)[:, :, ::-1])
    except UndecodableError as error:  # it was readable before: somebody moved or changed it
        return _captioned(_error_picture(str(error)), reading, _FAILED, "gone")
    if not reading.lines:
        return _captioned(_overlay(picture, reading), reading, _FAINT, "no text")
    count = len(reading.lines)
    sure = sum(line.confidence for line in reading.lines) / count
    return _captioned(
        _overlay(picture, reading), reading, _colour(sure), f"{count} line{'s' * (count > 1)} · {sure:.0%}"
    )


def _captioned(picture: Image.Image, reading: Reading, colour: str, note: str) -> Image.Image:
    card = Image.new("RGB", (_WIDTH, _CAPTION + picture.height), _PAPER)
    draw = ImageDraw.Draw(card)
    font = _font(14)
    note_width = int(font.getlength(note))
    draw.text((_WIDTH - note_width, 2), note, fill=colour, font=font)
    draw.text(
        (0, 2), _shortened(Path(reading.path).name, font, _WIDTH - note_width - 12), fill=_INK, font=font
    )
    card.paste(picture, (0, _CAPTION))
    return card


def _overlay(picture: Image.Image, reading: Reading) -> Image.Image:
    """Scale the picture to the column, pale, with frames and text over it."""
    scale = min(_WIDTH / picture.width, _MAX_HEIGHT / picture.height, _MAX_SCALE)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = picture.resize(size, Image.Resampling.LANCZOS)
    if reading.lines:
        shown = Image.blend(shown, Image.new("RGB", size, "white"), 0.35)
    draw = ImageDraw.Draw(shown, "RGBA")  # colours with an alpha are laid over what is there
    for line in reading.lines:
        _draw_line(draw, line, scale)
    draw.rectangle((0, 0, size[0] - 1, size[1] - 1), outline="#c9c7bf")
    return shown


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, scale: float) -> None:
    corners = [(x * scale, y * scale) for x, y in line.box]
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    width, height = max(x for x, _ in corners) - left, max(y for _, y in corners) - top
    colour = _colour(line.confidence)
    # What the model is not sure of is often no text at all, so that much of the picture stays to be seen.
    draw.polygon(corners, fill="#fffffff0" if colour == _SURE else "#ffffff70", outline=colour)
    text = _drawable(line.text)
    # The largest size at which the text fits into its frame.
    unit = _font(100).getlength(text) / 100
    size = min(height * 0.8, (width - 4) / unit if unit else height)
    font = _font(min(max(size, _SMALLEST), _LARGEST))
    draw.text((left + width / 2, top + height / 2), text, fill=colour, font=font, anchor="mm")


def _error_picture(error: str) -> Image.Image:
    picture = Image.new("RGB", (_WIDTH, 60), "#f7dedb")
    font = _font(14)
    ImageDraw.Draw(picture).text((12, 22), _shortened(error, font, _WIDTH - 24), fill=_FAILED, font=font)
    return picture


def _shortened(text: str, font: Font, width: float) -> str:
    """Cut out the middle until it fits: both ends of a file name tell more."""
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[-(kept // 2) :]}"
    return shown


def _drawable(text: str) -> str:
    """The text with `?` for what Pillow's font lacks: the model knows far more characters."""
    return "".join(
        character if _has_glyph(character) else "?"
        for character in text.replace("\N{MULTIPLICATION SIGN}", "x")
    )


@functools.cache
def _has_glyph(character: str) -> bool:
    font = _font(20)
    return character.isspace() or bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


def _colour(confidence: float) -> str:
    return _SURE if confidence >= 0.9 else _UNSURE


@functools.cache
def _font(size: float) -> Font:
    return ImageFont.load_default(size)
