"""What a server measures about itself, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Telemetry:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.queued_rows = Gauge(
            "gloss_queued_rows", "Explanations that wait to be written", registry=registry
        )
        self.batch_rows = Gauge(
            "gloss_batch_rows", "Explanations being written side by side", registry=registry
        )
        self.queued_jobs = Gauge(
            "gloss_queued_jobs", "Readings, scores and other work waiting", registry=registry
        )
        self.cache_bytes = Gauge(
            "gloss_cache_bytes", "Memory of kept activations and explanations", registry=registry
        )
        self.tokens = Counter("gloss_tokens", "Tokens written by AVs", registry=registry)
        self.explanations = Counter(
            "gloss_explanations", "Explanations finished", registry=registry
        )
        self.abandoned = Counter(
            "gloss_abandoned_rows", "Explanations whose client left", registry=registry
        )
        self.shared = Counter(
            "gloss_shared_work",
            "Work taken from the cache or another's",
            ["kind"],
            registry=registry,
        )
        self.failures = Counter(
            "gloss_failures", "Requests that failed", ["kind"], registry=registry
        )
        self.requests = Counter(
            "gloss_requests", "Requests answered", ["path", "status"], registry=registry
        )
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
