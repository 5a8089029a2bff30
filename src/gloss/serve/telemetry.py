"""What a server measures about itself, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Telemetry:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"gloss_{name}", text, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"gloss_{name}", text, labels, registry=registry)

        self.queued_rows = gauge("queued_rows", "Explanations that wait to be written")
        self.batch_rows = gauge("batch_rows", "Explanations being written side by side")
        self.queued_jobs = gauge("queued_jobs", "Readings and reconstructions waiting")
        self.cache_bytes = gauge("cache_bytes", "Memory of cached activations and explanations")
        self.tokens = counter("tokens", "Tokens written by AVs")
        self.explanations = counter("explanations", "Explanations finished")
        self.abandoned = counter("abandoned_rows", "Explanations whose client left")
        self.shared = counter("shared_work", "Work taken from the cache or another's", "kind")
        self.failures = counter("failures", "Requests that failed", "kind")
        self.requests = counter("requests", "Requests answered", "path", "status")
        self.latency = Histogram(
            "gloss_request_seconds",
            "Time to the end of an answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )

    def text(self) -> bytes:
        """All of it, as a scrape reads it."""
        return generate_latest(self.registry)
