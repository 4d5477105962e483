"""Reading and writing: datasources and sinks, files and their formats, the commit protocol of writes."""
