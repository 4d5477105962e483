"""Features of pictures: read from folders that name their class, resized, described, written as JSON."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import ray
from PIL import Image
from ray.data.datasource import Partitioning


def describe(row):
    image = row["image"]
    return {
        "name": os.path.basename(row["path"]),
        "kind": row["kind"],
        "shape": str(image.shape),
        "brightness": float(np.round(image.mean(), 1)),
        "reddest": bool(image[..., 0].mean() > image[..., 2].mean()),
    }


ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
with tempfile.TemporaryDirectory() as folder:
    for kind, colour in (("sunset", (200, 80, 40)), ("sea", (20, 90, 180))):
        Path(folder, "in", kind).mkdir(parents=True)
        for n in range(4):
            picture = Image.new("RGB", (60 + n, 40), tuple(min(255, part + 10 * n) for part in colour))
            picture.save(Path(folder, "in", kind, f"{kind}-{n}.png"))

    pictures = ray.data.read_images(
        os.path.join(folder, "in"), size=(20, 30), mode="RGB", include_paths=True,
        partitioning=Partitioning("dir", field_names=["kind"], base_dir=os.path.join(folder, "in")),
    )  # fmt: skip
    print("pictures:", pictures.count())
    described = pictures.map(describe)
    described.write_json(os.path.join(folder, "out"))
    lines = [line for file in Path(folder, "out").iterdir() for line in file.read_text().splitlines()]
    for row in sorted(map(json.loads, lines), key=lambda row: row["name"]):
        print(row["name"], row["kind"], row["shape"], row["brightness"], row["reddest"])
