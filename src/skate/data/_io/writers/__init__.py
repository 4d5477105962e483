"""Writers: sinks for files, tables of databases and what users define, and the formats of files.

::

    <format>      one module for each: a Format, and the sink with the options of write_<format>
    file_sink     begins, stages, records and commits a write of files, in any format
    formats       what a format has to offer
    names         the names of files
    datasinks     the protocol for users' own sinks
    sql           rows into a table of a database
"""
