"""Counts, times and remembers the RPCs of the door."""

from __future__ import annotations

from time import monotonic

from skate.serve._messages import Route
from skate.serve._observing import metrics, requests


class Observed:
    """The RPCs that have ended here. On the loop."""

    def ended(self, path: str, route: Route | str, request_id: str, code: str, began: float) -> None:
        """Note that an RPC has ended.

        Args:
            path: ``/package.Service/Method``.
            route: its application; a text: it has found none.
            request_id: names it.
            code: the name of its status.
            began: when it came (monotonic clock, seconds).
        """
        now = monotonic()
        application, deployment = ("", "") if isinstance(route, str) else (route.app_name, route.ingress)
        milliseconds = (now - began) * 1000
        known = metrics.this.metrics
        labels = (application, path, application, code)
        known.counter("ray_serve_num_grpc_requests", *labels).value += 1
        known.histogram("ray_serve_grpc_request_latency_ms", *labels).observe(milliseconds)
        if code != "OK":
            known.counter(
                "ray_serve_num_grpc_error_requests", application, code, path, application
            ).value += 1
            of_deployment = (deployment, application, code, path, application)
            known.counter("ray_serve_num_deployment_grpc_error_requests", *of_deployment).value += 1
        requests.this.note((request_id, deployment, application, "GRPC", path, code, milliseconds, now))
