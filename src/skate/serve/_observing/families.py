"""The families of metrics: Ray's names where Ray has the metric, and our own."""

from __future__ import annotations

from dataclasses import dataclass

#: Upper ends of the buckets of times (milliseconds): three in each decade.
MILLISECONDS = (
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0,
    30000.0, 60000.0,
)  # fmt: skip
#: Upper ends of the buckets of batch sizes (items), and of how full batches are (percent).
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
PERCENT = (5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0, 100.0)


@dataclass(frozen=True)
class Family:
    """One metric.

    Args:
        kind: "counter", "gauge" or "histogram".
        help: of the text format.
        labels: names of the labels of its series.
        bounds: of a histogram: the upper ends of its buckets but the last.
    """

    kind: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


_OF = ("deployment", "application")
_HTTP = ("route", "method", "application", "status_code")


def _counter(text: str, *labels: str) -> Family:
    return Family("counter", text, labels)


def _gauge(text: str, *labels: str) -> Family:
    return Family("gauge", text, labels)


def _times(text: str, *labels: str) -> Family:
    return Family("histogram", text, labels, MILLISECONDS)


#: By name; a counter's name in the text has "_total" at its end.
FAMILIES: dict[str, Family] = {
    # At the door.
    "ray_serve_num_http_requests": _counter("HTTP requests that were answered.", *_HTTP),
    "ray_serve_num_http_error_requests": _counter(
        "HTTP requests whose status was 400 or above.", "route", "error_code", "method", "application"
    ),
    "ray_serve_num_deployment_http_error_requests": _counter(
        "The same, by deployment.", *_OF, "error_code", "method", "route"
    ),
    "ray_serve_http_request_latency_ms": _times("From an HTTP request's head to its answer.", *_HTTP),
    "ray_serve_num_ongoing_http_requests": _gauge("HTTP requests in a process.", "process"),
    "ray_serve_handed_over_connections": _counter(
        "Connections that were passed to another process.", "reason"
    ),
    # At the door of gRPC.
    "ray_serve_num_grpc_requests": _counter("RPCs that were answered.", *_HTTP),
    "ray_serve_num_grpc_error_requests": _counter(
        "RPCs whose status was not OK.", "route", "error_code", "method", "application"
    ),
    "ray_serve_num_deployment_grpc_error_requests": _counter(
        "The same, by deployment.", *_OF, "error_code", "method", "route"
    ),
    "ray_serve_grpc_request_latency_ms": _times("From an RPC's beginning to its end.", *_HTTP),
    # In replicas.
    "ray_serve_deployment_request_counter": _counter("Requests that a deployment answered.", *_OF, "route"),
    "ray_serve_deployment_error_counter": _counter(
        "Requests in which a deployment raised.", *_OF, "route", "exception_type"
    ),
    "ray_serve_deployment_processing_latency_ms": _times("Time in a deployment's code.", *_OF, "route"),
    "ray_serve_deployment_replica_starts": _counter("Replicas that started.", *_OF),
    "ray_serve_replica_processing_queries": _gauge("Requests in a replica.", *_OF, "replica"),
    # In processes that call deployments.
    "ray_serve_num_router_requests": _counter("Requests that needed a replica's credit.", *_OF),
    "ray_serve_deployment_queued_queries": _gauge(
        "Requests that wait in a process for a replica.", *_OF, "process"
    ),
    "ray_serve_num_ongoing_requests_at_replicas": _gauge(
        "Requests that a process has sent to replicas.", *_OF, "process"
    ),
    "ray_serve_shed": _counter("Requests that were refused.", *_OF, "reason"),
    "ray_serve_deadline_exceeded": _counter("Requests whose time was up.", *_OF, "where"),
    "ray_serve_cancelled": _counter("Requests that were cancelled.", *_OF, "where"),
    # Batches.
    "ray_serve_batches_processed": _counter("Batches that ran.", *_OF, "function_name"),
    "ray_serve_batch_released": _counter("Why batches began.", *_OF, "function_name", "reason"),
    "ray_serve_batch_wait_time_ms": _times("How long a batch's oldest call waited.", *_OF, "function_name"),
    "ray_serve_batch_execution_time_ms": _times("How long a batch ran.", *_OF, "function_name"),
    "ray_serve_actual_batch_size": Family("histogram", "Calls in a batch.", (*_OF, "function_name"), SIZES),
    "ray_serve_batch_utilization_percent": Family(
        "histogram", "Calls in a batch, of the most that may be.", (*_OF, "function_name"), PERCENT
    ),
    "ray_serve_batch_queue_length": _gauge(
        "Calls that wait for a batch.", *_OF, "function_name", "replica"
    ),
    # Models.
    "ray_serve_multiplexed_get_model_requests_counter": _counter("Calls for a model.", *_OF),
    "ray_serve_multiplexed_models_load_counter": _counter("Models that were loaded.", *_OF),
    "ray_serve_multiplexed_models_unload_counter": _counter("Models that were dropped.", *_OF),
    "ray_serve_multiplexed_model_load_latency_ms": _times("How long a model's loader took.", *_OF),
    "ray_serve_multiplexed_model_unload_latency_ms": _times("How long a model's end took.", *_OF),
    "ray_serve_num_multiplexed_models": _gauge("Models that are loaded.", *_OF, "replica"),
    # In the controller.
    "ray_serve_deployment_replica_healthy": _gauge("1: the replica runs and is healthy.", *_OF, "replica"),
    "ray_serve_health_check_failures": _counter("Health checks that failed.", *_OF),
}  # fmt: skip
