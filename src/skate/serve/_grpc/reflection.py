"""The service by which clients ask for services: gRPC's server reflection."""

from __future__ import annotations

import logging

from skate.serve._grpc.services import Services

logger = logging.getLogger("skate.serve")


def describing(services: Services) -> Services | None:
    """Return the service that describes services to clients such as grpcurl; None: its package is missing.

    Args:
        services: those of users.
    """
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        logger.info("serve does not describe its gRPC services: grpcio-reflection is not installed")
        return None
    found = Services()
    reflection.enable_server_reflection([*services.names, reflection.SERVICE_NAME], found)
    return found
