"""The operator's own Prometheus metrics. What they count is part of the public contract; who counts is elsewhere."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelfleet.cluster.kinds import OWN_KINDS
from modelfleet.cluster.view import View

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# A "_created" gauge beside every counter doubles the page and says nothing that anybody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics, in a registry of their own, so that several operators (tests) can live in one process."""

    def __init__(self, view: View, depth: Callable[[], int]) -> None:
        registry = self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "modelfleet_reconciles",
            "Reconciles by kind and result (changed, unchanged, gone, error, conflict, interrupted).",
            ("kind", "result"),
            registry=registry,
        )
        self.duration = Histogram(
            "modelfleet_reconcile_duration_seconds",
            "Time of one reconcile, its writes included.",
            ("kind",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.errors = Counter("modelfleet_reconcile_errors", "Failed reconciles.", ("kind",), registry=registry)
        self.verification_failures = Counter(
            "modelfleet_verification_failures",
            "Artifacts found not to be what their ModelVersion says, or not to be had; told by an Event each.",
            ("reason",),
            registry=registry,
        )
        self.requests = Counter(
            "modelfleet_api_requests",
            "Requests to the API server by verb, kind and status code; watches apart. Code 0: no answer.",
            ("verb", "kind", "code"),
            registry=registry,
        )
        self.repairs = Counter(
            "modelfleet_view_repairs",
            "Objects whose watch event never came, found by comparing the view with the API server.",
            ("kind",),
            registry=registry,
        )
        self.analysis_queries = Counter(
            "modelfleet_analysis_queries",
            "Queries of canaries' analyses by result (ok, error).",
            ("result",),
            registry=registry,
        )
        self.progress_reports = Counter(
            "modelfleet_progress_reports",
            "Reports of training pods by the code of the answer; 200: taken.",
            ("code",),
            registry=registry,
        )
        self.leader = Gauge("modelfleet_leader", "1 where this replica holds the Lease.", registry=registry)
        depth_gauge = Gauge("modelfleet_queue_depth", "Keys that are due and wait for a worker.", registry=registry)
        depth_gauge.set_function(depth)
        registry.register(_Objects(view))

    def count_request(self, verb: str, kind: str, code: int) -> None:
        """One finished request."""
        self.requests.labels(verb, kind, str(code)).inc()


class _Objects(Collector):
    """Our objects by phase, counted from the view whenever somebody looks."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The one family."""
        family = GaugeMetricFamily("modelfleet_objects", "Objects by kind and phase.", labels=("kind", "phase"))
        for kind in OWN_KINDS:
            for phase, count in sorted(Tally(_phase(obj) for obj in self._view.list(kind)).items()):
                family.add_metric((kind, phase), count)
        yield family


def _phase(obj: Mapping[str, Any]) -> str:
    """A ModelVersion's stage, anyone else's phase."""
    status = obj.get("status") or {}
    return str(status.get("phase") or status.get("stage") or "New")
