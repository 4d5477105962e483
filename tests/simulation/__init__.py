"""A whole session in one process: the real roles, on a virtual clock and over streams in memory.

``python -m simulation`` runs the program in ``program``; ``test_session`` compares such runs.
"""
