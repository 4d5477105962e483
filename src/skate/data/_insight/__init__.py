"""The sight of an execution: what limits it, how far it is, a trace and a picture of it.

::

    shares      the time of a process, split so that the parts add up to all of it
    limits      which stage limits an execution, and why
    prediction  seconds, memory and limit of an execution, from runs over a few rows
    progress    one line in a terminal, a table by rich, or HTML in a notebook
    lanes       which process did what, when
    trace       the tasks as events for Chrome's and Perfetto's trace viewers
    picture     the run as an SVG: who worked when, and on what
"""
