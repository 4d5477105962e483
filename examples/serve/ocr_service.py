"""Reads the text in pictures that are uploaded: by ``curl``, or by dragging them onto a page.

An entrance has the page and takes the pictures; readers, with a model each, read them. A reader that dies
takes its picture with it, so the entrance sends that one again. The model, PP-OCRv6 small, is inside the
wheel of rapidocr: ``pip install rapidocr onnxruntime pillow 'skate-runtime[serve]'``.
"""

import importlib.metadata
import io
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from starlette.responses import HTMLResponse, JSONResponse

from skate import serve
from skate.serve.exceptions import ReplicaUnavailableError

MOST_PIXELS = 40_000_000


class NoPicture(ValueError):
    pass


@serve.deployment(max_ongoing_requests=1)
class Reader:
    def __init__(self, least_confidence: float = 0.5):
        import cv2
        from rapidocr import RapidOCR

        # It downloads a model that it is not given.
        models = Path(importlib.metadata.distribution("rapidocr").locate_file("rapidocr/models"))
        cv2.setNumThreads(1)
        self.model = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_cls": False,
                # As they are, if their longer side is below this. (By default it enlarges small ones.)
                "Det.limit_type": "max",
                "Det.limit_side_len": 1280,
                "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
                "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        self.least_confidence = least_confidence
        self(picture_of("ready"))  # the first picture takes longer

    def __call__(self, data: bytes) -> dict:
        began = time.perf_counter()
        pixels = decode(data)
        height, width, _ = pixels.shape
        found = self.model(pixels)
        # Without text, there are no lists at all.
        texts = zip(found.txts, found.scores, found.boxes, strict=True) if found.txts else ()
        lines = [
            {"text": text, "confidence": round(float(score), 3), "box": np.round(box, 1).tolist()}
            for text, score, box in texts
            if score >= self.least_confidence
        ]
        ms = round(1000 * (time.perf_counter() - began))
        return {"width": width, "height": height, "ms": ms, "lines": lines}


@serve.deployment(max_ongoing_requests=100)
class Entrance:
    def __init__(self, reader, page: str):
        self.reader = reader
        self.page = page

    async def __call__(self, request):
        if request.method != "POST":
            return HTMLResponse(self.page)
        data = await request.body()
        try:
            return await self.read(data)
        except NoPicture as error:
            return JSONResponse({"error": str(error.cause)}, status_code=400)

    async def read(self, data: bytes) -> dict:
        try:
            return await self.reader.remote(data)
        except ReplicaUnavailableError:
            return await self.reader.remote(data)  # reading a picture twice does no harm


def decode(data: bytes):
    """Return the pixels of a picture, blue first, as the model wants them."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise NoPicture(f"a picture has {MOST_PIXELS:,} pixels at most")
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except NoPicture:
        raise
    except Exception as error:
        raise NoPicture(f"this is no picture that can be decoded: {error}") from None
    return np.ascontiguousarray(pixels[:, :, ::-1])


def picture_of(text: str) -> bytes:
    picture = Image.new("RGB", (360, 96), "white")
    ImageDraw.Draw(picture).text((24, 24), text, fill="black", font_size=40)
    data = io.BytesIO()
    picture.save(data, "png")
    return data.getvalue()


def build(readers: int = 1, **model):
    page = Path(__file__).with_name("ocr_page.html").read_text()
    return Entrance.bind(Reader.options(num_replicas=readers).bind(**model), page)


def main():
    serve.start(http_options={"port": 0})
    serve.run(build())
    (address,) = serve.status().proxies
    for text in ("Harbour 1907", "Lantern"):
        with urllib.request.urlopen(f"http://{address}/", data=picture_of(text)) as answer:
            lines = json.load(answer)["lines"]
        print(f"{text}:", *(line["text"] for line in lines))
    try:
        urllib.request.urlopen(f"http://{address}/", data=b"a text")
    except urllib.error.HTTPError as error:
        print(error.code, json.load(error)["error"][:48])
    serve.shutdown()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        print("http://127.0.0.1:8000, or: curl http://127.0.0.1:8000 --data-binary @picture.png")
        serve.run(build(), blocking=True)
    else:
        main()
