"""Part of an EdgeDeployment: how requests reach the replicas, and what its status tells of it."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.alias_generators import to_snake

from modelfleet.api import common
from modelfleet.api.rules import Contract, Rule, Rules, Unique, matches

TrafficProvider = Literal["Istio", "GatewayAPI", "None"]

Host = Annotated[
    str, Field(pattern=r"^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
GatewayName = Annotated[
    str,
    Field(pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=317),
]
SectionName = Annotated[str, Field(pattern=common.SUBDOMAIN_PATTERN, max_length=253)]


ProbeUrl = Annotated[
    str,
    Field(max_length=256),
    Rules(
        matches(
            r"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?(/([-A-Za-z0-9_~]([-A-Za-z0-9._~]*))?)*$",
            "must be an http or https URL without credentials, query or path segments that begin with a dot, such as"
            " http://ingress.istio-system/v2/health/ready",
        )
    ),
]
ProbeHost = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253),
]


class ParentReference(Contract):
    """A Gateway that a route is attached to, as the Gateway API has it."""

    name: common.SecretName
    """Name of the Gateway."""
    namespace: common.ObjectName | None = None
    """Namespace of the Gateway; absent: that of the EdgeDeployment."""
    section_name: SectionName | None = None
    """Listener of the Gateway; absent: all that allow it."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of the Gateway's listeners; absent: all."""


class RouteReference(Contract):
    """An HTTPRoute in the same namespace."""

    name: common.SecretName
    """Name of the HTTPRoute."""


def _only(provider: str, field: str, *, of_list: bool = False) -> Rule:
    """The rule that a field is given for one provider only."""

    def check(self: Any) -> bool:
        return self.provider == provider or not getattr(self, to_snake(field))

    empty = f" || size(self.{field}) == 0" if of_list else ""
    return Rule(
        f"self.provider == '{provider}' || !has(self.{field}){empty}",
        f"{field} needs provider: {provider}",
        check,
        field=field,
    )


class Probe(Contract):
    """Requests to the data plane that tell whether it follows a route: GET, without a body or credentials."""

    url: ProbeUrl
    """What is requested, such as http://ingress.istio-system/v2/health/ready. It must be one of the installation's
    traffic.probeAddresses, or lie below one. Who answers must say its revision in the header x-model-revision, as the
    default serving image does."""
    host: ProbeHost | None = None
    """Name of the host that the requests are for; absent: the one in the URL."""


class Traffic(Contract):
    """How requests are routed to the replicas of stable and candidate."""

    rules: ClassVar = (
        Rule(
            "self.provider != 'Istio' || (has(self.hosts) && size(self.hosts) > 0)",
            "hosts must name at least one host with provider: Istio: the route is for requests to it",
            lambda self: self.provider != "Istio" or len(self.hosts) > 0,
            field="hosts",
        ),
        Rule(
            "self.provider != 'GatewayAPI' ||"
            " (has(self.parentRefs) && size(self.parentRefs) > 0) != has(self.routeRef)",
            "provider: GatewayAPI needs either parentRefs (the Gateways of a route of our own) or routeRef (a route of"
            " yours)",
            lambda self: self.provider != "GatewayAPI" or (len(self.parent_refs) > 0) != (self.route_ref is not None),
        ),
        _only("Istio", "gateways", of_list=True),
        _only("GatewayAPI", "parentRefs", of_list=True),
        _only("GatewayAPI", "routeRef"),
        _only("Istio", "mtls"),
        Rule(
            "self.provider != 'None' || !has(self.probe)",
            "probe needs provider: Istio or GatewayAPI, whose data plane it asks",
            lambda self: self.provider != "None" or self.probe is None,
            field="probe",
        ),
        Rule(
            "!has(self.routeRef) || !has(self.hosts) || size(self.hosts) == 0",
            "hosts are those of the route that routeRef names: leave them out here",
            lambda self: self.route_ref is None or not self.hosts,
            field="hosts",
        ),
    )

    provider: TrafficProvider
    """Whose objects route requests. Istio: a VirtualService and a DestinationRule. GatewayAPI: an HTTPRoute. None:
    a Service alone."""
    hosts: Annotated[list[Host], Field(max_length=16), Unique()] = Field(default_factory=list)
    """Host names that requests are made to. Istio: a VirtualService of yours that owns one must delegate to ours."""
    gateways: Annotated[list[GatewayName], Field(max_length=16), Unique()] = Field(default_factory=list)
    """Istio Gateways, as namespace/name; mesh is added."""
    parent_refs: Annotated[list[ParentReference], Field(max_length=8)] = Field(default_factory=list)
    """Gateways of the Gateway API, when the route is to be ours."""
    route_ref: RouteReference | None = None
    """HTTPRoute of yours whose rules for our Service are copied, with the canary's header added."""
    pools: Annotated[list[common.ShortName], Field(min_length=1, max_length=100), Unique()] = Field(
        default_factory=list
    )
    """Names of the pools whose pods take routed requests: one, or all that have placement: Replicas; absent: all
    those."""
    mtls: Literal["Strict", "Permissive"] | None = None
    """Strict: pods take requests from the mesh only. Permissive: others' too. Absent: what the mesh says."""
    probe: Probe | None = None
    """How to see whether the data plane follows a route; absent: it is given 3 seconds."""


class TrafficServices(Contract):
    """Services by what they select."""

    stable: Annotated[str, Field(max_length=63)] = ""
    """Service of the stable revision's pods."""
    candidate: Annotated[str, Field(max_length=63)] = ""
    """Service of the candidate's pods; empty while there is none."""


class TrafficStatus(Contract):
    """How requests are routed."""

    virtual_service_name: Annotated[str, Field(max_length=253)] = ""
    """Istio: the VirtualService of ours; what a VirtualService of yours would delegate to."""
    http_route_name: Annotated[str, Field(max_length=253)] = ""
    """Gateway API: the HTTPRoute of ours."""
    services: TrafficServices | None = None
    """Services by what they select."""
    route: Annotated[str, Field(max_length=63)] = ""
    """Hash of the route: it is another one after each change."""
    route_change_time: common.Timestamp | None = None
    """When the route last changed."""
    confirmed_route: Annotated[str, Field(max_length=63)] = ""
    """Hash of the route that the probe has seen the data plane follow; empty while it has not, or there is none."""
