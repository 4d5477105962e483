"""A service for tests of gRPC, as generated code would have it: messages and its function for servers.

Processes of applications and of the door import it by its name. It is made in Python, without a compiler.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

NAME = "skate.tests.Words"


def _descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="skate_tests_words.proto", package="skate.tests", syntax="proto3"
    )
    field = descriptor_pb2.FieldDescriptorProto
    message = file.message_type.add(name="Text")
    message.field.add(name="text", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    message.field.add(name="number", number=2, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    service = file.service.add(name="Words")
    for name, (from_client, from_server) in KINDS.items():
        service.method.add(
            name=name,
            input_type=".skate.tests.Text",
            output_type=".skate.tests.Text",
            client_streaming=from_client,
            server_streaming=from_server,
        )
    return file


#: Method to whether the client, and the server, sends a stream.
KINDS = {
    "Upper": (False, False),
    "Context": (False, False),
    "Fail": (False, False),
    "Wait": (False, False),
    "Missing": (False, False),
    "Split": (False, True),
    "Forever": (False, True),
    "Join": (True, False),
    "Echo": (True, True),
}

_POOL = descriptor_pool.Default()
_POOL.Add(_descriptor())
Text: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("skate.tests.Text"))
Text.__module__ = __name__

_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def add_WordsServicer_to_server(servicer: Any, server: Any) -> None:
    """Register the service at a server, as generated code does."""
    handlers = {
        name: _MAKERS[kind](
            getattr(servicer, name),
            request_deserializer=Text.FromString,
            response_serializer=Text.SerializeToString,
        )
        for name, kind in KINDS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    server.add_registered_method_handlers(NAME, handlers)


class WordsStub:
    """The client's side."""

    def __init__(self, channel: grpc.Channel) -> None:
        for name, kind in KINDS.items():
            make = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
                (True, True): channel.stream_stream,
            }[kind]
            stub = make(
                f"/{NAME}/{name}",
                request_serializer=Text.SerializeToString,
                response_deserializer=Text.FromString,
            )
            setattr(self, name, stub)
