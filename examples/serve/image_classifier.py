"""An image classifier in ONNX. The same operations prepare pictures online and in a run over a data set.

The model tells upright lines of text from those that stand on their head; it is inside the wheel of
rapidocr: ``pip install rapidocr onnxruntime pillow 'skate-runtime[serve,data]'``.
"""

import importlib.metadata
import io
import json
import sys
import urllib.request

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

import skate.data
from skate import serve

MODEL = "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"
LABELS = ["upright", "upside down"]


def decode(row):
    return {"picture": np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB").resize((192, 48)))}


def normalise(row):
    return {"pixels": row["picture"].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1}


def prepared(pictures):
    """The operations. Nothing runs until rows are asked for."""
    return pictures.map(decode).map(normalise)


class Model:
    def __init__(self):
        path = importlib.metadata.distribution("rapidocr").locate_file(MODEL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options)

    def __call__(self, batch):
        (scores,) = self.session.run(None, {"x": batch["pixels"]})
        return {"label": np.array(LABELS)[scores.argmax(axis=1)], "probability": scores.max(axis=1)}


@serve.deployment(max_ongoing_requests=32)
class Classifier:
    def __init__(self, prepare):
        self.prepare = prepare
        self.model = Model()

    @serve.batch(max_batch_size=8)
    def classify(self, pictures: list[bytes]):
        rows = self.prepare.rows({"bytes": one} for one in pictures)
        found = self.model({"pixels": np.stack([row["pixels"] for row in rows])})
        return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]

    async def __call__(self, request):
        return await self.classify(await request.body())


app = Classifier.bind(prepared(skate.data.from_items([{"bytes": b""}])).as_callable())


def line_of_text(text, turned):
    picture = Image.new("RGB", (192, 48), "white")
    ImageDraw.Draw(picture).text((8, 8), text, fill="black", font_size=28)
    data = io.BytesIO()
    (picture.rotate(180) if turned else picture).save(data, "png")
    return data.getvalue()


def main():
    serve.start(http_options={"port": 0})
    serve.run(app)
    (address,) = serve.status().proxies
    pictures = [
        line_of_text(text, turned) for text in ("Harbour 1907", "Lantern") for turned in (False, True)
    ]
    answers = []
    for picture in pictures:
        with urllib.request.urlopen(f"http://{address}/", data=picture) as answer:
            answers.append(json.load(answer))
            print(answers[-1]["label"])
    data = skate.data.from_items([{"bytes": picture} for picture in pictures])
    run = prepared(data).map_batches(Model, compute=skate.data.ActorPoolStrategy(size=1)).take_all()
    print("the same from a run:", [row["label"] for row in run] == [one["label"] for one in answers])
    serve.shutdown()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        print("curl http://127.0.0.1:8000 --data-binary @line.png")
        serve.run(app, blocking=True)
    else:
        main()
