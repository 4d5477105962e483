"""Make a folder of screenshots searchable: ``python -m demo``, a program that runs on skate.

    files ─► decode (tasks) ─► Reader (pool, an OCR model each) ─► Parquet, resumable ─► table, contact sheet
                └─► dead letters: pictures that cannot be decoded, and why

Each picture is in the output exactly once, whatever is killed on the way. A run that was stopped goes on.

    cli                                 arguments, and the order of things
    pipeline · baselines                the same work three ways: skate, multiprocessing, a plain loop
    output · sheet · search · report    what a person gets: Parquet, contact sheet, hits, table
    sources · pictures · ocr            where pictures come from, how they are decoded and read
    readings · errors                   vocabulary
"""
