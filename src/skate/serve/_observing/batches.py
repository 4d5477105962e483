"""Counts the batches of one batched function, and the models of one loader."""

from __future__ import annotations

from collections.abc import Callable

from skate.serve._observing import metrics
from skate.serve.context import process


class BatchMetrics:
    """The series of one batched function.

    Args:
        function: its name.
        waiting: returns how many calls wait.
    """

    def __init__(self, function: str, waiting: Callable[[], int]) -> None:
        found, labels = metrics.this.metrics, (*_labels(), function)
        self._processed = found.counter("ray_serve_batches_processed", *labels)
        self._released = {
            reason: found.counter("ray_serve_batch_released", *labels, reason)
            for reason in ("full", "window")
        }
        self._waited = found.histogram("ray_serve_batch_wait_time_ms", *labels)
        self._ran = found.histogram("ray_serve_batch_execution_time_ms", *labels)
        self._size = found.histogram("ray_serve_actual_batch_size", *labels)
        self._share = found.histogram("ray_serve_batch_utilization_percent", *labels)
        if process.replica is not None:
            key = ("ray_serve_batch_queue_length", (*labels, process.replica.replica_tag))
            found.add_reader(lambda: {key: waiting()})

    def begun(self, size: int, waited_s: float | None, most: int, reason: str | None) -> None:
        """A batch, or a step of a stream of batches, begins.

        Args:
            size: calls in it.
            waited_s: how long the oldest of those waited that are new in it (seconds); None: none is.
            most: the size that it may have.
            reason: why it began, "full" or "window"; None: the step before had ended.
        """
        if reason is not None:
            self._released[reason].value += 1
        if waited_s is not None:
            self._waited.observe(waited_s * 1000)
        self._size.observe(size)
        self._share.observe(100 * size / most)

    def ended(self, seconds: float) -> None:
        """It has ended after so long."""
        self._processed.value += 1
        self._ran.observe(seconds * 1000)


class ModelMetrics:
    """The series of one loader of models.

    Args:
        count: returns how many models are loaded.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        found, labels = metrics.this.metrics, _labels()
        self.calls = found.counter("ray_serve_multiplexed_get_model_requests_counter", *labels)
        self._loads = found.counter("ray_serve_multiplexed_models_load_counter", *labels)
        self._unloads = found.counter("ray_serve_multiplexed_models_unload_counter", *labels)
        self._load_times = found.histogram("ray_serve_multiplexed_model_load_latency_ms", *labels)
        self._unload_times = found.histogram("ray_serve_multiplexed_model_unload_latency_ms", *labels)
        if process.replica is not None:
            key = ("ray_serve_num_multiplexed_models", (*labels, process.replica.replica_tag))
            found.add_reader(lambda: {key: count()})

    def loaded(self, seconds: float) -> None:
        """A model was loaded in so long."""
        self._loads.value += 1
        self._load_times.observe(seconds * 1000)

    def unloaded(self, seconds: float) -> None:
        """A model was dropped; its end took so long."""
        self._unloads.value += 1
        self._unload_times.observe(seconds * 1000)


def _labels() -> tuple[str, str]:
    """Return the deployment and the application of this process; both "" outside of replicas."""
    replica = process.replica
    return ("", "") if replica is None else (replica.deployment, replica.app_name)
