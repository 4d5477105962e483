"""Words of text files, counted: flat_map, a filter, a group for each word."""

import re
import tempfile
from pathlib import Path

import ray

TEXT = """The quick brown fox jumps over the lazy dog.

A dog is lazy when the sun is hot, and the fox is quick when the dog is not.
"""

ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
with tempfile.TemporaryDirectory() as folder:
    for n in range(3):
        Path(folder, f"page-{n}.txt").write_text(TEXT * (n + 1))

    lines = ray.data.read_text(folder)
    print("lines:", lines.count())
    words = lines.flat_map(lambda row: [{"word": word.lower()} for word in re.findall(r"\w+", row["text"])])
    counts = words.filter(lambda row: len(row["word"]) > 2).groupby("word").count()
    found = sorted(counts.take_all(), key=lambda row: (-row["count()"], row["word"]))
    for row in found[:6]:
        print(row["word"], row["count()"])
    print("different words:", len(found))
