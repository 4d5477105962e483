"""The sight of an execution: what limits it, how far it is, a trace and a picture of it.

::

    limits      which stage limits an execution, and what each replica's time went into
    progress    one line in a terminal, a table by rich, or HTML in a notebook
    trace       the tasks as events for Chrome's and Perfetto's trace viewers
    picture     the run as an SVG: who worked when, and on what
"""
