"""A table is aggregated and written to a database, and read back by a query."""

import sqlite3
import tempfile
from pathlib import Path

import skate.data
from skate.data.aggregate import Count, Mean
from skate.data.expressions import col

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        database = Path(name) / "numbers.db"

        def connect():
            return sqlite3.connect(database)

        with connect() as connection:
            connection.execute("CREATE TABLE digits (last_digit INTEGER, numbers INTEGER, mean REAL)")
        connection.close()

        numbers = skate.data.range(100_000).with_column("last_digit", col("id") % 10)
        digits = numbers.groupby("last_digit").aggregate(Count(), Mean("id"))
        digits.write_sql("INSERT INTO digits VALUES (?, ?, ?)", connect)

        query = "SELECT * FROM digits WHERE last_digit >= 7 ORDER BY last_digit"
        for row in skate.data.read_sql(query, connect).take_all():
            print(row)
