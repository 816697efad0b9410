"""spec.canary of an EdgeDeployment, and its part of the status: a new version gets some requests before it gets all.

Where requests are routed is ``spec.traffic``'s; here is which share, for how long, and by what it is judged.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelfleet.api import common, duration
from modelfleet.api.rules import Contract, Rule, Rules, Unique, matches

Percentage = Annotated[int, Field(ge=0, le=100)]
Limit = Annotated[int, Field(ge=0, le=1000)]
Pause = Annotated[
    str,
    Field(max_length=18),
    Rules(
        matches(
            rf"^Manual$|{duration.DURATION_PATTERN}",
            "must be Manual, or a duration such as 90s, 10m or 1h30m",
        )
    ),
]
HeaderName = Annotated[
    str,
    Field(max_length=64),
    Rules(
        matches(
            r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$",
            "must be the name of an HTTP header: letters, digits, dashes and underscores, such as x-version",
        )
    ),
]
HeaderValue = Annotated[
    str,
    Field(max_length=128),
    Rules(matches(r"^[!-~]([ -~]*[!-~])?$", "must be visible ASCII text without spaces at its ends, such as v2")),
]
PrometheusAddress = Annotated[
    str,
    Field(max_length=256),
    Rules(
        matches(
            r"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[-A-Za-z0-9._~/]*)?$",
            "must be an http or https URL of a Prometheus server without credentials or query, such as"
            " http://prometheus.monitoring:9090",
        )
    ),
]
Query = Annotated[
    str,
    Field(min_length=1, max_length=2048),
    Rules(
        matches(
            r"^([^{]|\{[^{]|\{\{(revision|namespace|name)\}\})*$",
            "may have the placeholders {{revision}}, {{namespace}} and {{name}}, and no others",
        )
    ),
]


class Mirror(Contract):
    """Copies of requests."""

    percentage: Percentage
    """Share of stable's requests that the new version gets a copy of, in percent; its answers are dropped."""


class Header(Contract):
    """A header that chooses the new version."""

    name: HeaderName
    """Name of the header; case does not matter."""
    value: HeaderValue
    """Value that it must have, to the letter: V2 is not v2."""


class CanaryStep(Contract):
    """A share of the requests, for a while."""

    weight: Percentage
    """Share of the requests that goes to the new version, in percent. 0: those with the header only."""
    pause: Pause | None = None
    """How long the step lasts once routing is in force. Manual: until it is promoted. Absent: as long as the analysis
    needs for a first result."""


class PrometheusQuery(Contract):
    """A query to a Prometheus server."""

    address: PrometheusAddress
    """URL of the server; it must be one of the installation's analysis.prometheusAddresses."""
    query: Query
    """PromQL that gives one number. {{revision}} stands for the new version's revision, {{namespace}} and {{name}} for
    those of the EdgeDeployment."""


class AnalysisMetric(Contract):
    """A number that must lie within bounds."""

    rules: ClassVar = (
        Rule(
            "has(self.min) || has(self.max)",
            "give min or max, or both: a metric without bounds judges nothing",
            lambda self: self.min is not None or self.max is not None,
        ),
    )

    name: common.ShortName
    """Name of the metric, unique in the analysis."""
    prometheus: PrometheusQuery
    """Where the number comes from."""
    min: common.Decimal | None = None
    """Smallest number that is good."""
    max: common.Decimal | None = None
    """Greatest number that is good."""


class Analysis(Contract):
    """How the new version is judged while it gets requests. Counts begin anew with each step."""

    initial_delay: duration.Duration = "0s"
    """Time from the start of a step to its first measurement."""
    interval: duration.PositiveDuration = "60s"
    """Time between two measurements."""
    failure_limit: Limit = 3
    """Bad measurements of one metric that are put up with in a step; one more fails the canary."""
    inconclusive_limit: Limit = 3
    """Measurements in a row without a number (no data, NaN) that are put up with; one more pauses the canary until
    there is a number, or somebody promotes the step."""
    consecutive_error_limit: Limit = 4
    """Queries in a row that the server does not answer, or refuses, that are put up with; one more pauses the canary
    until it answers, or somebody promotes the step."""
    metrics: Annotated[list[AnalysisMetric], Field(min_length=1, max_length=10), Unique("name")]
    """What is measured."""


class Canary(Contract):
    """How the requests go over to a new version, after the first wave and before the others.

    Without a stable version it is skipped.
    """

    mirror: Mirror | None = None
    """Copies of stable's requests for the new version."""
    header: Header | None = None
    """Requests with this header go to the new version from the first step on."""
    steps: Annotated[list[CanaryStep], Field(min_length=1, max_length=20)]
    """Shares of the requests, in their order. After the last one all requests go to the new version."""
    analysis: Analysis | None = None
    """How the new version is judged during the steps; absent: by its pods alone."""


class MetricStatus(Contract):
    """What a metric said in the present step."""

    name: common.ShortName
    """Name of the metric."""
    value: Annotated[str, Field(max_length=32)] | None = None
    """The last number."""
    result: Literal["Successful", "Failed", "Inconclusive", "Error"]
    """Verdict on the last measurement."""
    failures: Annotated[int, Field(ge=0)] = 0
    """Bad measurements in this step."""
    inconclusive: Annotated[int, Field(ge=0)] = 0
    """Measurements without a number since the last one with."""
    errors: Annotated[int, Field(ge=0)] = 0
    """Queries without an answer since the last one with."""
    message: Annotated[str, Field(max_length=256)] = ""
    """Why there is no number."""
    last_run_at: common.Timestamp
    """When it was last measured."""


class CanaryStatus(Contract):
    """How far the requests have gone over to the new version."""

    revision: Annotated[str, Field(max_length=63)]
    """Revision that this speaks of."""
    attempt: Annotated[int, Field(ge=1)]
    """Attempt at it; a retry begins the present step anew."""
    step_index: Annotated[int, Field(ge=0)]
    """The present step, counted from 0; as many as there are steps: all are done."""
    step_started_at: common.Timestamp | None = None
    """Since when the routing of the present step has been in force; absent while it is not."""
    weight: Percentage
    """Share of the requests that is routed to the new version, in percent."""
    header: bool
    """Whether requests with the header are routed to the new version."""
    ended_at: common.Timestamp | None = None
    """Since when all requests have gone to one version; the pods of the other go soon after."""
    analysis: Annotated[list[MetricStatus], Field(max_length=10)] = Field(default_factory=list)
    """What the metrics say."""
