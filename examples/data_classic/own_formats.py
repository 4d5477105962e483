"""A data source, a sink and file names of one's own."""

import tempfile
from pathlib import Path

import pyarrow as pa
import ray
from ray.data import Datasink, Datasource, ReadTask
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import FilenameProvider, RowBasedFileDatasink

ray.init(num_cpus=2, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False


class Fibonacci(Datasource):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def estimate_inmemory_data_size(self):
        return 8 * self.count

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        numbers = [0, 1]
        while len(numbers) < self.count:
            numbers.append(numbers[-1] + numbers[-2])
        half = self.count // 2
        parts = [numbers[:half], numbers[half:]]
        return [
            ReadTask(
                lambda part=part: [pa.table({"n": part})],
                BlockMetadata(
                    num_rows=len(part), size_bytes=8 * len(part), input_files=None, exec_stats=None
                ),
            )
            for part in parts
        ]


class Total(Datasink):
    def __init__(self):
        self.total = 0

    def write(self, blocks, ctx):
        return sum(int(BlockAccessor.for_block(block).to_numpy("n").sum()) for block in blocks)

    def on_write_complete(self, write_result):
        self.total = sum(write_result.write_returns)


class Notes(RowBasedFileDatasink):
    def write_row_to_file(self, row, file):
        file.write(f"number {row['n']}\n".encode())


class Daily(FilenameProvider):
    def get_filename_for_task(self, write_uuid, task_index):
        return f"day-{write_uuid}-{task_index}.parquet"


ds = ray.data.read_datasource(Fibonacci(20))
print("rows:", ds.count())
sink = Total()
ds.write_datasink(sink)
print("total:", sink.total)
with tempfile.TemporaryDirectory() as folder:
    ds.limit(5).write_datasink(Notes(f"{folder}/notes", file_format="txt"))
    print(sorted(file.read_text().strip() for file in Path(folder, "notes").iterdir()))
    ds.write_parquet(f"{folder}/table", filename_provider=Daily())
    print(all(file.name.startswith("day-") for file in Path(folder, "table").glob("*.parquet")))
    print(ray.data.read_parquet(f"{folder}/table").max("n"))
