"""The messages of ``RayServeAPIService``. They need protobuf, which `skate-runtime[serve-grpc]` brings."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["HealthzRequest", "HealthzResponse", "ListApplicationsRequest", "ListApplicationsResponse"]

_PACKAGE = "ray.serve"


def _made() -> descriptor_pool.DescriptorPool:
    """Return a pool of their own: a program may have Ray's file in the default one."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="serve.proto", package=_PACKAGE, syntax="proto3")
    for name in ("ListApplicationsRequest", "HealthzRequest"):
        file.message_type.add(name=name)
    file.message_type.add(name="ListApplicationsResponse").field.add(
        name="application_names", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED
    )
    file.message_type.add(name="HealthzResponse").field.add(
        name="message", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_pool = _made()


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


ListApplicationsRequest = _class("ListApplicationsRequest")
ListApplicationsResponse = _class("ListApplicationsResponse")
HealthzRequest = _class("HealthzRequest")
HealthzResponse = _class("HealthzResponse")
