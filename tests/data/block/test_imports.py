"""Which modules blocks load: numpy and pandas only where a value asks for them."""

import subprocess
import sys

import pytest

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ImportError(name)

HIDDEN = {hidden!r}
sys.meta_path.insert(0, Hidden())
"""

ROWS = """
import datetime
import pyarrow as pa
from skate.data._block import batches, builder, rows, tables
from skate.data.block import BlockAccessor
from skate.data.datatype import DataType
import skate.data.extensions

given = [{"i": i, "f": i / 2, "s": str(i), "b": bytes(i), "l": [i], "d": {"a": i}, "t": datetime.date(2020, 1, 1),
          "o": i if i % 2 else str(i), "n": None} for i in range(5)]
block = rows.from_rows(given)
assert list(rows.iter_rows(block)) == given
made = builder.BlockBuilder(100)
made.add_row(given[0])
made.add_block(block)
whole = tables.concat(list(made.finish()) + [pa.table({"i": [0.5]})])
assert whole.num_rows == 7
assert tables.size_bytes(tables.compact(tables.slice_rows(whole, 1, 3)))
assert batches.from_batch(batches.to_batch(block, "pyarrow"), "f").equals(block)
assert batches.from_batch({"x": [1, 2]}, "f").num_rows == 2
assert [part.num_rows for part in batches.rebatch(iter([block]), 3)] == [3, 2]
assert BlockAccessor.for_block(block).sort("i").num_rows == 5
assert DataType.int64().is_integer_type()
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hidden", [{"numpy", "pandas"}, {"pandas"}])
def test_rows_and_tables_need_neither_numpy_nor_pandas(hidden):
    run(HIDE.replace("{hidden!r}", repr(hidden)) + ROWS)


def test_numpy_batches_and_tensors_do_not_load_pandas():
    run(
        ROWS
        + """
import sys
import numpy as np
batch = batches.to_batch(rows.from_rows([{"i": 1, "s": "a", "t": np.zeros(2)}, {"i": None, "s": "b", "t": np.zeros(3)}]), "numpy")
batches.from_batch(batch, "f")
assert "pandas" not in sys.modules
batches.to_batch(block, "pandas")
assert "pandas" in sys.modules
"""
    )


def test_pandas_is_not_loaded_until_it_is_asked_for_and_then_works_as_ever():
    run(
        ROWS
        + """
import sys
assert "pandas" not in sys.modules
import importlib.util
assert importlib.util.find_spec("pandas") is not None
import pandas as pd
series = pd.Series([1.0, None], index=[5, 6])
assert pa.array(series, from_pandas=True).null_count == 1
assert pa.table({"x": series}).num_rows == 2
assert pa.table(pd.DataFrame({"x": series})).column_names == ["x", "__index_level_0__"]
assert pa.types.is_dictionary(pa.array(pd.Categorical(["a"])).type)
assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_Watch"]
"""
    )


def test_pandas_that_pyarrow_asks_for_first():
    run(
        ROWS
        + "import sys; assert pa.table({'x': [1]}).to_pandas().shape == (1, 1); assert 'pandas' in sys.modules"
    )


def test_pandas_that_is_loaded_before():
    run(
        "import pandas as pd\n"
        + ROWS
        + "assert pa.array(pd.Series([1.0, None]), from_pandas=True).null_count == 1"
    )


def test_the_package_loads_neither_pyarrow_nor_numpy():
    run("import sys, skate.data; assert not {'pyarrow', 'numpy', 'pandas'} & set(sys.modules)")
