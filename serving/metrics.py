"""What /metrics says, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    def __init__(self):
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "lmmvqa_requests", "Requests for a score, by what became of them", ["outcome"], registry=registry
        )
        self.in_flight = Gauge(
            "lmmvqa_in_flight", "Videos that are uploaded, wait or are scored now", registry=registry
        )
        self.seconds = Histogram(
            "lmmvqa_seconds",
            "From the end of an upload to its row, waiting included",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=registry,
        )
        self.batch_videos = Histogram(
            "lmmvqa_batch_videos", "Videos scored together", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)
