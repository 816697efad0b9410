"""A route as Istio's objects: one VirtualService, one DestinationRule with a subset for each revision.

The route is derived anew each time and is ours alone: ``http`` of a VirtualService is an atomic list, which cannot be
shared. Where a VirtualService of the user's owns the host, it delegates to ours, which then has no hosts of its own.
A subset is there before a route uses it and stays until no route does. Istio writes no status by default: a route is
accepted once it is what the API server has, and in force a moment later (``traffic.py``); where Istio's status or
analysis is turned on, what they say counts.

Sources: Istio's reference, VirtualService (first match wins; AND within a match, OR across; delegates are merged one
level deep) and DestinationRule; ``pkg/config/validation`` of istio/istio for what a delegate must not have.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from modelfleet.api import names
from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.api.traffic import Traffic
from modelfleet.plan import conditions, naming
from modelfleet.plan.edge.aim import Problem
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic import routed_services
from modelfleet.plan.traffic.route import Route, Stated, holds, is_owned, one_of, reference

KINDS: Final = ("VirtualService", "DestinationRule", "PeerAuthentication")
NETWORKING: Final = "networking.istio.io/v1"
SECURITY: Final = "security.istio.io/v1"
MESH: Final = "mesh"
_GRPC: Final = {"content-type": {"prefix": "application/grpc"}}


def state(
    owner: RawObject,
    spec: EdgeDeploymentSpec,
    traffic: Traffic,
    route: Route,
    keep: Iterable[str],
    seen: Mapping[str, Sequence[RawObject]],
) -> Stated:
    """The objects of a route; ``keep`` names revisions that have a subset though the route may not use it."""
    metadata = owner["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    services = seen["VirtualService"]
    found = one_of(services, namespace, name)
    live = found if found is not None and is_owned(found, owner) else None
    foreign = [each for each in services if not is_owned(each, owner)]
    delegates = any(_delegates_to(each, namespace, name) for each in foreign)
    rule = destination_rule(owner, {*route.revisions, *keep, *_subsets_of(live)})
    own = _owned(seen["DestinationRule"], owner)
    live_rule = one_of(own, namespace, name)
    service = virtual_service(owner, spec, traffic, route, delegated=delegates)
    problem = None if delegates else _conflict(foreign, traffic, namespace)
    if found is not None and live is None:
        problem = Problem(
            "RouteNameTaken",
            f"VirtualService {name} is not modelfleet's: rename it, or this EdgeDeployment, whose routes bear its name",
        )
    ready = live_rule is not None and set(route.revisions) <= _names_of_subsets(live_rule)
    apply = [rule, *([service] if ready and problem is None else [])]
    delete = []
    authentications = _owned(seen["PeerAuthentication"], owner)
    if traffic.mtls:
        apply.append(peer_authentication(owner, spec, traffic.mtls))
    else:
        delete += [reference(each) for each in authentications]
    accepted, waiting = _accepted(live, service)
    return Stated(
        apply=apply,
        delete=delete,
        accepted=accepted and problem is None,
        waiting=waiting,
        problem=problem,
        names={"virtualServiceName": name},
    )


def reaches(owner: RawObject, seen: Mapping[str, Sequence[RawObject]]) -> frozenset[str]:
    """The revisions that the VirtualService sends requests to now."""
    return frozenset(
        revision for each in _owned(seen.get("VirtualService", ()), owner) for revision in _subsets_of(each)
    )


def remove(owner: RawObject, seen: Mapping[str, Sequence[RawObject]]) -> Stated:
    """Everything of ours goes: what routes first, then what it names."""
    objects = [each for kind in KINDS for each in _owned(seen.get(kind, ()), owner)]
    return Stated(delete=[reference(each) for each in objects], accepted=not objects)


def virtual_service(
    owner: RawObject, spec: EdgeDeploymentSpec, traffic: Traffic, route: Route, *, delegated: bool
) -> RawObject:
    """The VirtualService: the first rule sends the header to the candidate, the last one splits by weight."""
    host = routed_services.routed_name(owner)
    ports = spec.serving.ports
    rules = []
    # With two ports gRPC is told by its content type: a route must name one port of a Service that has several.
    kinds = [({}, ports.http)] if ports.grpc is None else [(_GRPC, ports.grpc), ({}, ports.http)]
    if route.header and route.candidate:
        header = {route.header[0].lower(): {"exact": route.header[1]}}
        for extra, port in kinds:
            to = {"destination": _destination(host, route.candidate, port), "weight": 100}
            rules.append({"match": [{"headers": {**header, **extra}}], "route": [to]})
    for extra, port in kinds:
        rule: dict[str, Any] = {"match": [{"headers": dict(extra)}]} if extra else {}
        rule["route"] = [
            {"destination": _destination(host, revision, port), "weight": share} for revision, share in route.shares
        ]
        if route.mirror and route.candidate:
            rule["mirrors"] = [
                {"destination": _destination(host, route.candidate, port), "percentage": {"value": route.mirror}}
            ]
        rules.append(rule)
    stated: dict[str, Any] = {"http": rules}
    if not delegated:
        stated["hosts"] = list(traffic.hosts)
        stated["gateways"] = [*(each for each in traffic.gateways if each != MESH), MESH]
    return _object(owner, NETWORKING, "VirtualService", stated)


def destination_rule(owner: RawObject, revisions: Iterable[str]) -> RawObject:
    """The DestinationRule with a subset for each revision, named by it."""
    subsets = [{"name": each, "labels": {names.REVISION_LABEL: each}} for each in sorted(filter(None, set(revisions)))]
    return _object(
        owner, NETWORKING, "DestinationRule", {"host": routed_services.routed_name(owner), "subsets": subsets}
    )


def peer_authentication(owner: RawObject, spec: EdgeDeploymentSpec, mtls: str) -> RawObject:
    """What the pods' sidecars take; it selects routed pods and nothing else of the namespace."""
    labels = routed_services.selector(owner, spec)
    return _object(
        owner, SECURITY, "PeerAuthentication", {"selector": {"matchLabels": labels}, "mtls": {"mode": mtls.upper()}}
    )


def lacks_sidecar(pods: Iterable[RawObject]) -> str:
    """Name of a pod that no proxy of Istio's stands before, so that it takes plain text whatever is asked."""
    for pod in sorted(pods, key=lambda each: str(each["metadata"]["name"])):
        spec, annotations = pod.get("spec") or {}, pod["metadata"].get("annotations") or {}
        containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        ambient = annotations.get("ambient.istio.io/redirection") == "enabled"
        if not ambient and not any(each["name"] == "istio-proxy" for each in containers):
            return str(pod["metadata"]["name"])
    return ""


def _destination(host: str, revision: str, port: int) -> dict[str, Any]:
    return {"host": host, "subset": revision, "port": {"number": port}}


def _object(owner: RawObject, api_version: str, kind: str, spec: dict[str, Any]) -> RawObject:
    metadata = owner["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.EDGE_DEPLOYMENT_LABEL: metadata["name"]},
            "ownerReferences": [naming.owner_reference(owner)],
        },
        "spec": spec,
    }


def _owned(objects: Iterable[RawObject], owner: RawObject) -> list[RawObject]:
    return [each for each in objects if is_owned(each, owner) and "deletionTimestamp" not in each["metadata"]]


def _names_of_subsets(rule: RawObject) -> set[str]:
    return {each["name"] for each in rule["spec"].get("subsets") or ()}


def _subsets_of(service: RawObject | None) -> set[str]:
    """The subsets that any rule of a VirtualService sends requests, or copies of them, to."""
    found = set()
    for rule in ((service or {}).get("spec") or {}).get("http") or ():
        targets = [*(rule.get("route") or ()), *(rule.get("mirrors") or ())]
        found |= {(each.get("destination") or {}).get("subset") for each in targets}
        found.add((rule.get("mirror") or {}).get("subset"))
    return {each for each in found if each}


def _accepted(live: RawObject | None, stated: RawObject) -> tuple[bool, str]:
    if live is None or not holds(live["spec"], stated["spec"]):
        return False, "the VirtualService is being written"
    status = live.get("status") or {}
    for each in status.get("validationMessages") or ():
        if each.get("level") in ("ERROR", 3):
            return False, f"Istio finds fault with VirtualService {live['metadata']['name']}: {each.get('type')}"
    reconciled = conditions.find(status.get("conditions") or (), "Reconciled")
    if reconciled is not None and reconciled.get("status") != "True":
        return False, f"Istio has not brought it to all proxies yet: {reconciled.get('message') or ''}".rstrip(": ")
    return True, ""


def _delegates_to(service: RawObject, namespace: str, name: str) -> bool:
    delegates = [rule.get("delegate") or {} for rule in service["spec"].get("http") or ()]
    own = service["metadata"]["namespace"]
    return any(each.get("name") == name and (each.get("namespace") or own) == namespace for each in delegates)


def _conflict(foreign: Iterable[RawObject], traffic: Traffic, namespace: str) -> Problem | None:
    """A VirtualService of somebody else's that takes requests to one of the hosts at one of the gateways."""
    hosts = {_qualified(host, namespace) for host in traffic.hosts}
    gateways = {_gateway(each, namespace) for each in (*traffic.gateways, MESH)}
    for each in sorted(foreign, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"])):
        theirs, metadata = each["spec"], each["metadata"]
        space = metadata["namespace"]
        shared = sorted(hosts & {_qualified(host, space) for host in theirs.get("hosts") or ()})
        if not shared or not gateways & {_gateway(one, space) for one in theirs.get("gateways") or [MESH]}:
            continue
        if theirs.get("exportTo") == ["."] and space != namespace:
            continue
        return Problem(
            "HostConflict",
            f"spec.traffic.hosts: VirtualService {space}/{metadata['name']} owns {shared[0]}: let a rule of its http"
            " delegate to the VirtualService named in status.traffic, or name another host",
        )
    return None


def _qualified(host: str, namespace: str) -> str:
    """A short name means a Service of the namespace; the domain of the cluster is not known and left out."""
    return f"{host}.{namespace}.svc" if "." not in host else host.removesuffix(".cluster.local")


def _gateway(name: str, namespace: str) -> str:
    return name if name == MESH or "/" in name else f"{namespace}/{name}"
