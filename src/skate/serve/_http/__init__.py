"""HTTP in the replicas themselves: there is no proxy.

All replicas that are entrances of applications accept from one listening socket, which is passed between
processes as a descriptor (``sharing.py``). A connection whose next request is for another application is
passed on to one of its
replicas in the same way, and so are idle connections of a replica that ends: no client sees a connection
close.
"""
