"""Counters and gauges, in the text format of Prometheus."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from asr.serving.capacity import Capacity
from asr.serving.feed import Step

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # a second line for each counter, that says when it began

_LATE_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """What a server counts. Memory, CPU time and open files of the process are there too."""

    def __init__(self, capacity: Capacity) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        streams = Gauge("asr_streams", "Open streams", registry=registry)
        streams.set_function(lambda: capacity.streams)
        load = Gauge("asr_load_cpus", "CPUs that the open streams need", registry=registry)
        load.set_function(lambda: capacity.load_cpus)
        self._opened = Counter("asr_streams_opened", "Streams that were opened", registry=registry)
        self._refused = Counter(
            "asr_streams_refused", "Clients that were refused", ["reason"], registry=registry
        )
        self._ended = Counter(
            "asr_streams_ended", "Streams by how they ended", ["how"], registry=registry
        )
        self._audio = Counter("asr_audio_seconds", "Audio that was recognised", registry=registry)
        self._compute = Counter("asr_compute_seconds", "Time it took", registry=registry)
        self._overruns = Counter(
            "asr_overruns", "Times that a budget of a stream was broken", registry=registry
        )
        self._late = Histogram(
            "asr_late_seconds",
            "From when audio was due to the messages about it",
            buckets=_LATE_BUCKETS_S,
            registry=registry,
        )

    def count_opened(self) -> None:
        """Count a stream."""
        self._opened.inc()

    def count_refused(self, reason: str) -> None:
        """Count a client that came in vain."""
        self._refused.labels(reason).inc()

    def count_ended(self, how: str) -> None:
        """Count the end of a stream."""
        self._ended.labels(how).inc()

    def count_step(self, step: Step) -> None:
        """Count what a step of a stream cost."""
        self._audio.inc(step.audio_s)
        self._compute.inc(step.compute_s)
        self._overruns.inc(step.overruns)
        self._late.observe(step.late_s)

    def to_text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self._registry)
