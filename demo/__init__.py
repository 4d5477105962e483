"""Make a folder of screenshots searchable: ``python -m demo``, a program that runs on skate.

    paths ─► PictureQueue ─path─► Decoder (pool) ─ref─► PictureQueue ─ref─► Reader (pool, an OCR model each)
                  ▲                   │ skate.put             ▲                 │
                  │                   └── pixels stay in shared memory ────────►│ zero-copy view
                  └──────────────────────── Reading (the text found) ───────────┘

The queue lends every picture to one worker at a time and takes it back when that worker dies, so each
picture is read exactly once in the output whatever is killed on the way.

    cli                                 arguments, and the order of things
    pipeline · baselines                the same work three ways: skate, multiprocessing, a plain loop
    worklist                            who holds which picture: rules only, no I/O
    output · sheet · search · report    what a person gets: Parquet, contact sheet, hits, table
    sources · pictures · ocr            where pictures come from, how they are decoded and read
    readings · errors                   vocabulary
"""
