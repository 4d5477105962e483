"""The OCR model: PP-OCRv6 small, as ONNX files inside the wheel of rapidocr."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from demo.errors import DemoError
from demo.pictures import Pixels, UndecodableError, decode
from demo.readings import Line, Point, Reading

DETECTOR = "PP-OCRv6_det_small.onnx"
RECOGNISER = "PP-OCRv6_rec_small.onnx"


def describe() -> str:
    """Name the model for the header; raise DemoError if it cannot be loaded, before any work starts."""
    model_files()
    return f"PP-OCRv6 small, from rapidocr {importlib.metadata.version('rapidocr')}"


def model_files() -> tuple[Path, Path]:
    """Return detector and recogniser in the installed wheel, without importing rapidocr.

    They are named to rapidocr outright, because it downloads a model that it does not find.
    """
    for package in ("rapidocr", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise DemoError(f"the OCR model needs the package {package}: pip install -e '.[demo]'")
    folder = Path(str(importlib.metadata.distribution("rapidocr").locate_file("rapidocr/models")))
    for name in (DETECTOR, RECOGNISER):
        if not (folder / name).is_file():
            version = importlib.metadata.version("rapidocr")
            raise DemoError(f"rapidocr {version} does not carry {name}: pip install 'rapidocr>=3.10,<4'")
    return folder / DETECTOR, folder / RECOGNISER


class Model:
    """A loaded model that computes in the calling thread alone: one model, one core."""

    def __init__(self) -> None:
        # Imported here, not above: only processes that read pictures pay for it.
        import cv2
        from rapidocr import RapidOCR

        detector, recogniser = model_files()
        cv2.setNumThreads(1)
        self._engine: Callable[[Pixels], Any] = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_cls": False,  # it looks for lines that stand on their head; screenshots have none
                "Det.model_path": str(detector),
                "Rec.model_path": str(recogniser),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        # The first picture with text loads the files. Let it not be a picture of the user's.
        card = Image.new("RGB", (320, 96), "white")
        ImageDraw.Draw(card).text((24, 24), "ready", fill="black", font_size=40)
        self._engine(np.asarray(card))

    def read(self, path: str, pixels: Pixels) -> Reading:
        """Find the text in a decoded picture; where the model fails, the reading has an error."""
        height, width = pixels.shape[:2]
        try:
            found = self._engine(pixels)
        except Exception as error:  # whatever cv2 or the ONNX runtime raise on odd shapes
            reason = " ".join(str(error).split())[:200]
            return Reading(path, width, height, error=f"cannot be read: {reason or type(error).__name__}")
        if found.txts is None:
            return Reading(path, width, height)
        lines = tuple(
            Line(str(text), float(score), _box(corners))
            for text, score, corners in zip(found.txts, found.scores, found.boxes, strict=True)
        )
        return Reading(path, width, height, lines)

    def read_file(self, path: str) -> Reading:
        """Decode and read in one step, as the baselines do."""
        try:
            pixels = decode(path)
        except UndecodableError as error:
            return Reading(path, error=str(error))
        return self.read(path, pixels)


def _box(corners: Any) -> tuple[Point, ...]:
    return tuple((float(x), float(y)) for x, y in corners)
