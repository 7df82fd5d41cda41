"""Numbers for Prometheus: requests, the predictor, what waits. Each application has a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cervicyte.web.engine.workers import backlog
from cervicyte.web.middleware.current import Running

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds; from a page out of the cache to an upload of hundreds of pictures.
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
#: What is counted by name; a client may call its method anything, and each name would be a series of its own.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Metrics:
    """What one server process counts.

    Addresses are counted by their rule, so that neither the number of series grows nor a token is told.
    """

    def __init__(self, running: Running) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cervicyte_requests", "Requests answered", ("method", "endpoint", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "cervicyte_request_seconds",
            "Seconds to answer a request",
            ("endpoint",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Running(running))

    def count(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method if method in _METHODS else "other", endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def text(self) -> bytes:
        """All numbers as they are now, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Running:
    """Reads the predictor and the store when it is asked."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def collect(self) -> Iterator[Metric]:
        """What Prometheus calls."""
        waiting = backlog(self._running.site)
        yield GaugeMetricFamily("cervicyte_pictures_waiting", "Pictures without an answer", value=waiting.waiting)
        yield GaugeMetricFamily("cervicyte_pictures_failed", "Pictures that could not be read", value=waiting.failed)
        predictor = self._running.predictor
        yield GaugeMetricFamily("cervicyte_model_up", "1 when a model answers", value=int(predictor is not None))
        if predictor is None:
            return
        statistics = predictor.statistics()
        yield GaugeMetricFamily(
            "cervicyte_desk_open", "Pictures in the predictor, not answered yet", value=statistics.open
        )
        for name, words, value in (
            ("images", "Pictures answered", statistics.images),
            ("images_failed", "Pictures that could not be used", statistics.failed),
            ("images_turned_away", "Pictures turned away because the queue was full", statistics.turned_away),
            ("batches", "Runs of the engine", statistics.batches),
            ("errors", "Runs and requests that failed", statistics.errors),
            ("explanations", "Explanations given", statistics.explanations),
            ("prepare_seconds", "Seconds of workers that prepare pictures", statistics.prepare_s),
            ("engine_seconds", "Seconds of the engine", statistics.engine_s),
            ("waited_seconds", "Seconds from request to answer, of all pictures", statistics.waited_s),
        ):
            yield CounterMetricFamily(f"cervicyte_desk_{name}", words, value=value)
