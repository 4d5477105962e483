"""gRPC: one process, the door, answers it and passes requests on by the routers of all other calls.

A connection of HTTP/2 carries many requests at a time and lasts as long as its client, so that it cannot
change its process as connections of HTTP/1.1 do. The door is an actor of its own, which no update touches
(docs/adr/0033-grpc-door.md). It parses no message: bytes go to the replica, which knows their type.
"""
