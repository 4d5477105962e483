"""Ask documents a question: ``python -m demo_search how do I select a region``.

PDF pages ──┐
            ├─► chunks of 128 words ─► near duplicates dropped ─► Embedder (pool) ─► index (Parquet)
HTML pages ─┘
question ─► Embedder ─► index, scored in batches ─► sorted ─► file, page, text

cli                      arguments, and the order of things
documents                where documents come from
index                    the two pipelines: building the index, and asking it
embedding                the model: what a text is about, as a vector
answers                  what a person gets
"""
