"""A client of ``RayServeAPIService``, which the port of gRPC answers: applications, and whether it works."""

from __future__ import annotations

from typing import Any

from skate.serve.generated import serve_pb2

__all__ = ["RayServeAPIServiceStub"]

_SERVICE = "/ray.serve.RayServeAPIService"


class RayServeAPIServiceStub:
    """Calls the service.

    Args:
        channel: of grpc, to the port of gRPC.

    Example:
        >>> RayServeAPIServiceStub(channel).Healthz(HealthzRequest()).message
        'success'
    """

    def __init__(self, channel: Any) -> None:
        self.ListApplications = channel.unary_unary(
            f"{_SERVICE}/ListApplications",
            request_serializer=serve_pb2.ListApplicationsRequest.SerializeToString,
            response_deserializer=serve_pb2.ListApplicationsResponse.FromString,
        )
        self.Healthz = channel.unary_unary(
            f"{_SERVICE}/Healthz",
            request_serializer=serve_pb2.HealthzRequest.SerializeToString,
            response_deserializer=serve_pb2.HealthzResponse.FromString,
        )
