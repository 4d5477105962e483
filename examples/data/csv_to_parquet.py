"""CSV becomes Parquet; rows that cannot be parsed are kept apart, with the reason, and tried again."""

import tempfile
from datetime import date
from pathlib import Path

import skate.data

CSV = """\
day,product,price
2026-11-01,tea,3.50
2026-11-02,coffee,4.20
yesterday,tea,3.60
2026-11-04,milk,free
2026-11-05,tea,3.70
"""


def parse(row, free=None):
    price = free if row["price"] == "free" and free is not None else row["price"]
    return {
        "day": date.fromisoformat(row["day"]),
        "product": row["product"],
        "cents": round(float(price) * 100),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prices.csv").write_text(CSV)
        lines = skate.data.read_csv(str(folder / "prices.csv"))

        parsed = lines.map(parse, on_error="dead_letter", max_errors=10)
        parsed.write_parquet(str(folder / "prices"), dead_letter=str(folder / "failed"))
        print(skate.data.read_parquet(str(folder / "prices")).sum("cents"), "cents")

        failed = skate.data.read_parquet(str(folder / "failed"))
        for letter in failed.sort("row_id").iter_rows():
            print(f"{letter['row']}: {letter['error']}")

        repaired = lines.map(parse, fn_kwargs={"free": "0"}, on_error="dead_letter").retry(failed)
        print("repaired:", repaired.take_all())
        print("still failing:", [letter["row"]["day"] for letter in repaired.dead_letters().iter_rows()])
