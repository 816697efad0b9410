"""How requests reach the replicas: from the route that a rollout wants to objects, and back to whether it is in force.

Level-triggered: each plan states the whole route anew. What cannot be seen is remembered in ``status.traffic``: when
the route last changed, as proxies learn of it a moment after whoever implements it took it. So long, and a while more,
outlive pods the requests to them, whatever becomes of the rollout; where a canary is under way, it sees to that, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.api.traffic import Traffic
from modelfleet.plan import conditions, naming
from modelfleet.plan.conditions import Condition
from modelfleet.plan.edge import workload
from modelfleet.plan.edge.aim import Problem
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import ObjectRef, RawObject
from modelfleet.plan.traffic import confirmation, gateway_api, istio, route, routed_pods, routed_services
from modelfleet.plan.traffic.canary_state import LINGER
from modelfleet.plan.traffic.probe import AGAIN, Probed, Question
from modelfleet.plan.traffic.route import Route, Stated
from modelfleet.plan.traffic.routed_pods import Pods

SETTLE: Final = timedelta(seconds=3)
"""How long proxies may take to follow a route that was accepted."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {"Istio": istio.KINDS, "GatewayAPI": gateway_api.KINDS}
"""By provider: the kinds whose objects are read and written."""

Seen = Mapping[str, Sequence[RawObject]]
"""Objects by kind, other people's included; a kind that the API server does not serve is not there."""


@dataclass(frozen=True)
class Routing:
    """What to write for a route, and what is known of it."""

    apply: list[RawObject] = field(default_factory=list)
    """Services first, routes last: after the workloads."""
    delete: list[ObjectRef] = field(default_factory=list)
    """Routes first: before the workloads."""
    in_force: bool = True
    """Whether requests are routed as was asked for: a canary goes on only then."""
    reaches: frozenset[str] | None = frozenset()
    """Revisions that requests may still reach, or have reached a moment ago; ``None``: any."""
    condition: Condition | None = None
    problem: Problem | None = None
    status: Mapping[str, Any] | None = None
    """``status.traffic``."""
    probe: Question | None = None
    """What to ask the data plane."""
    requeue_after: float | None = None

    def released(self, revision: str) -> bool:
        """Whether no request can reach this revision's routed pods any more, so that they may go."""
        return self.reaches is not None and revision not in self.reaches


def is_routed(spec: EdgeDeploymentSpec) -> bool:
    """Whether anything but a Service routes requests."""
    return spec.traffic is not None and spec.traffic.provider != "None"


def takes_requests(spec: EdgeDeploymentSpec, pool: str) -> bool:
    """Whether requests are routed to the pods of this pool."""
    if not is_routed(spec) or spec.traffic is None:
        return False
    replicas = any(each.name == pool and each.placement == workload.REPLICAS for each in spec.pools)
    return replicas and (not spec.traffic.pools or pool in spec.traffic.pools)


def decide(
    owner: RawObject,
    spec: EdgeDeploymentSpec,
    wanted: Route | None,
    pods: Pods,
    services: Sequence[RawObject],
    seen: Seen,
    installation: Installation,
    now: datetime,
    probed: Probed | None = None,
) -> Routing:
    """State a route.

    ``services`` are those of the namespace that carry this deployment's label, ``probed`` is what the data plane
    answered last.
    """
    traffic = spec.traffic
    if traffic is None or not is_routed(spec):
        return _unrouted(owner, spec, services, seen)
    problem = _unavailable(traffic, seen, installation)
    before = (owner.get("status") or {}).get("traffic") or {}
    if problem is not None or wanted is None:
        said = problem or Problem("NoRevision", "there is nothing to route requests to yet", heals=True)
        stable = routed_services.selected(services, owner, routed_services.stable_name(owner))
        return Routing(
            apply=[routed_services.service(owner, spec, routed_services.stable_name(owner), stable)],
            in_force=False,
            reaches=None if before else frozenset(),
            condition=Condition("TrafficRouted", "False", said.reason, said.message),
            problem=problem,
            status=before or None,
        )
    return _routed(owner, spec, traffic, wanted, pods, services, seen, before, now, probed)


def _routed(
    owner: RawObject,
    spec: EdgeDeploymentSpec,
    traffic: Traffic,
    wanted: Route,
    pods: Pods,
    services: Sequence[RawObject],
    seen: Seen,
    before: Mapping[str, Any],
    now: datetime,
    probed: Probed | None,
) -> Routing:
    reached = istio.reaches(owner, seen) | gateway_api.reaches(owner, seen)
    effective = _with_backends(wanted, pods, reached, now)
    keep = reached | pods.revisions | {wanted.stable, wanted.candidate or wanted.stable}
    if traffic.provider == "Istio":
        stated = istio.state(owner, spec, traffic, effective, keep, seen)
        others = gateway_api.remove(owner, seen)
    else:
        stated = gateway_api.state(owner, spec, traffic, effective, services, seen)
        others = istio.remove(owner, seen)
    main = effective.main
    selected = routed_services.selected(services, owner, routed_services.stable_name(owner))
    if main not in {*reached, selected} and not pods.bears(main, now, reached=False):
        stated = _held_back(stated, f"no replica of revision {main} has been ready long enough")
        main = selected or main
    mark = naming.content_hash([str(effective), traffic.model_dump(mode="json")], naming.WORKLOAD_LENGTH)
    changed = before.get("routeChangeTime") if before.get("route") == mark else None
    since = conditions.parse_timestamp(changed) if changed else now
    settled = stated.accepted and now - since >= SETTLE
    told = probed if probed is not None and probed.route == mark else None
    confirmed = settled and (before.get("confirmedRoute") == mark or (told is not None and not told.why))
    asks = traffic.probe if settled and not confirmed else None
    header = (spec.canary.header.name, spec.canary.header.value) if spec.canary and spec.canary.header else None
    in_force = settled and (traffic.probe is None or confirmed)
    made, needed = _services(owner, spec, traffic, main, effective.candidate, keep)
    # Whatever another provider was told goes when this one has taken over.
    superseded = others.delete if stated.accepted else ()
    left = () if others.delete else routed_services.unneeded(services, owner, needed)
    wait = (since + SETTLE - now).total_seconds() if stated.accepted and not settled else None
    if asks is not None:
        wait = AGAIN.total_seconds()
    # Whatever requests went to before the route changed: proxies follow in their own time, and requests end.
    rests = since + SETTLE + LINGER
    lingering = pods.revisions - effective.revisions if now < rests else frozenset()
    if lingering and wait is None:
        wait = (rests - now).total_seconds()
    if stated.reason == "WaitingForBackends" or effective != wanted:
        wait = routed_pods.ENDPOINTS.total_seconds() if any(pods.ready.get(each) for each in wanted.revisions) else None
    return Routing(
        apply=[*made, *stated.apply],
        delete=[*stated.delete, *superseded, *left],
        in_force=in_force and effective == wanted,
        reaches=reached | effective.revisions | ({selected} - {""}) | lingering,
        condition=_condition(effective, wanted, stated, traffic, pods, in_force, told, now - since),
        problem=stated.problem,
        status={
            **(stated.names or {}),
            "services": {
                "stable": routed_services.stable_name(owner),
                **({"candidate": routed_services.candidate_name(owner)} if wanted.candidate else {}),
            },
            "route": mark,
            "routeChangeTime": changed or conditions.timestamp(now),
            **({"confirmedRoute": mark} if traffic.probe is not None and confirmed else {}),
        },
        probe=confirmation.question(asks, effective, header, mark) if asks is not None else None,
        requeue_after=None if wait is None else max(0.0, wait) + 0.5,
    )


def _unrouted(owner: RawObject, spec: EdgeDeploymentSpec, services: Sequence[RawObject], seen: Seen) -> Routing:
    """A Service of all replicas alone; whatever routed before goes."""
    gone = [*istio.remove(owner, seen).delete, *gateway_api.remove(owner, seen).delete]
    delete = [*gone, *routed_services.unneeded(services, owner, ())]
    if not any(pool.placement == workload.REPLICAS for pool in spec.pools):
        name = routed_services.stable_name(owner)
        left = [each for each in services if each["metadata"]["name"] == name]
        own = [each for each in left if route.is_owned(each, owner)]
        return Routing(delete=[*delete, *map(route.reference, own)])
    return Routing(apply=[routed_services.service(owner, spec, routed_services.stable_name(owner))], delete=delete)


def _unavailable(traffic: Traffic, seen: Seen, installation: Installation) -> Problem | None:
    provider = traffic.provider
    if provider not in installation.traffic_providers:
        value = "traffic.istio.enabled" if provider == "Istio" else "traffic.gatewayAPI.enabled"
        return Problem(
            "TrafficProviderDisabled",
            f"spec.traffic.provider: this installation has no rights on routes of {provider}; set the chart's value"
            f" {value}, or provider to None",
        )
    if traffic.probe is not None and confirmation.forbidden(traffic.probe, installation):
        return Problem(
            "ProbeAddressNotAllowed",
            f"spec.traffic.probe.url: {conditions.shorten(traffic.probe.url, 80)} is at none of the installation's"
            " addresses; add it to the chart's value traffic.probeAddresses, or name another",
        )
    missing = [kind for kind in KINDS[provider] if kind not in seen]
    if missing:
        return Problem(
            "TrafficProviderMissing",
            f"spec.traffic.provider: the API server does not serve {', '.join(missing)}: install {provider}, or set"
            " provider to None",
        )
    return None


def _with_backends(wanted: Route, pods: Pods, reached: frozenset[str], now: datetime) -> Route:
    """The route with no requests for a candidate of which nothing is ready.

    A header that is in force stays: who asks for the candidate gets an error rather than another version's answer.
    """
    candidate = wanted.candidate
    if candidate is None or pods.bears(candidate, now, reached=candidate in reached):
        return wanted
    return wanted.without_candidate(keep_header=candidate in reached)


def _held_back(stated: Stated, why: str) -> Stated:
    """Without what routes: a first route waits until there is something behind it."""
    apply = [each for each in stated.apply if each["kind"] not in ("VirtualService", "HTTPRoute")]
    return replace(stated, apply=apply, accepted=False, reason="WaitingForBackends", waiting=why)


def _services(
    owner: RawObject,
    spec: EdgeDeploymentSpec,
    traffic: Traffic,
    main: str,
    candidate: str | None,
    kept: Iterable[str],
) -> tuple[list[RawObject], list[str]]:
    """The Services to apply, and the names of those that stay."""
    chosen = {routed_services.stable_name(owner): main}
    if candidate:
        chosen[routed_services.candidate_name(owner)] = candidate
    if traffic.provider == "Istio":
        chosen[routed_services.routed_name(owner)] = ""
    else:
        chosen |= {routed_services.revision_name(owner, each): each for each in sorted(kept)}
    return [routed_services.service(owner, spec, name, each) for name, each in chosen.items()], list(chosen)


def _condition(
    effective: Route,
    wanted: Route,
    stated: Stated,
    traffic: Traffic,
    pods: Pods,
    in_force: bool,
    probed: Probed | None,
    age: timedelta,
) -> Condition:
    if stated.problem is not None:
        return Condition("TrafficRouted", "False", stated.problem.reason, stated.problem.message)
    if not stated.accepted:
        return Condition("TrafficRouted", "False", stated.reason, stated.waiting)
    if effective != wanted:
        why = f"no replica of revision {wanted.candidate} is ready: {effective}"
        return Condition("TrafficRouted", "False", "WaitingForBackends", why)
    if not in_force and probed is not None and probed.why:
        late = age >= confirmation.PATIENCE
        why = f"spec.traffic.probe: {probed.why}" if late else f"proxies learn of it: {effective}"
        return Condition("TrafficRouted", "False", "ProbeFailed" if late else "Updating", why)
    if not in_force:
        return Condition("TrafficRouted", "False", "Updating", f"proxies learn of it: {effective}")
    bare = istio.lacks_sidecar(pods.present) if traffic.mtls == "Strict" else ""
    if bare:
        why = f"spec.traffic.mtls: pod {bare} has no sidecar and takes plain text; turn injection on for this namespace"
        return Condition("TrafficRouted", "False", "NoSidecar", why)
    return Condition("TrafficRouted", "True", "Routed", str(effective))
