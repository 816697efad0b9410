"""A route as an HTTPRoute of the Gateway API: all of it where the host is ours, its header where it is the user's.

An HTTPRoute's rules are not tried in order: a longer path wins, then a method, then the number of headers, and between
equals the older route (Gateway API specification, HTTPRouteRule). So where the user has a route for the host
(``routeRef``), each of its matches for our Service is copied with the header added and all else as it is: it wins over
the match it was copied from, and over nothing else. Weights cannot be added that way.

A route is accepted when every parent says so, of the generation that is there.
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

KINDS: Final = ("HTTPRoute",)
GROUP: Final = "gateway.networking.k8s.io"
ANY_PATH: Final[dict[str, Any]] = {"path": {"type": "PathPrefix", "value": "/"}}
_COPIED: Final = ("filters", "timeouts", "retry", "sessionPersistence")
"""What a copied rule keeps of the user's, as it is."""


def state(
    owner: RawObject,
    spec: EdgeDeploymentSpec,
    traffic: Traffic,
    route: Route,
    services: Iterable[RawObject],
    seen: Mapping[str, Sequence[RawObject]],
) -> Stated:
    """The HTTPRoute of a route, once the Services that it names are there."""
    namespace = owner["metadata"]["namespace"]
    routes = seen["HTTPRoute"]
    own = [each for each in routes if is_owned(each, owner) and "deletionTimestamp" not in each["metadata"]]
    name = route_name(owner, traffic)
    others = [reference(each) for each in own if each["metadata"]["name"] != name]
    made, problem = _route(owner, spec, traffic, route, routes)
    live = one_of(routes, namespace, name)
    if live is not None and not is_owned(live, owner):
        message = f"HTTPRoute {name} is not modelfleet's: rename it, or this EdgeDeployment, whose routes bear its name"
        problem = Problem("RouteNameTaken", message)
    if problem is not None:
        return Stated(problem=problem, names={"httpRouteName": name})
    if made is None:
        # The user's route alone: nothing asks for the candidate any more.
        gone = [reference(live)] if live is not None else []
        return Stated(delete=[*others, *gone], accepted=not gone, waiting="the HTTPRoute is taken away")
    present = {each["metadata"]["name"] for each in services}
    ready = all(routed_services.revision_name(owner, each) in present for each in _used(made, owner))
    accepted, waiting, reason = _accepted(live, made)
    return Stated(
        apply=[made] if ready else [],
        delete=others if accepted else [],
        accepted=accepted,
        waiting=waiting,
        reason=reason,
        names={"httpRouteName": name},
    )


def reaches(owner: RawObject, seen: Mapping[str, Sequence[RawObject]]) -> frozenset[str]:
    """The revisions that HTTPRoutes of ours send requests to now."""
    own = [each for each in seen.get("HTTPRoute", ()) if is_owned(each, owner)]
    return frozenset(revision for each in own for revision in _revisions(each, owner))


def remove(owner: RawObject, seen: Mapping[str, Sequence[RawObject]]) -> Stated:
    """Everything of ours goes."""
    own = [each for each in seen.get("HTTPRoute", ()) if is_owned(each, owner)]
    present = [each for each in own if "deletionTimestamp" not in each["metadata"]]
    return Stated(delete=[reference(each) for each in present], accepted=not present)


def route_name(owner: RawObject, traffic: Traffic) -> str:
    """Name of the HTTPRoute: the user's own may well have that of the deployment."""
    name = str(owner["metadata"]["name"])
    return naming.joined(name, "canary") if traffic.route_ref else name


def header_match(match: Mapping[str, Any], header: tuple[str, str]) -> dict[str, Any] | None:
    """A match with the header added; ``None`` where it speaks of that header itself."""
    headers = list(match.get("headers") or ())
    if any(each["name"].lower() == header[0].lower() for each in headers):
        return None
    return {**match, "headers": [*headers, {"type": "Exact", "name": header[0], "value": header[1]}]}


def _route(
    owner: RawObject, spec: EdgeDeploymentSpec, traffic: Traffic, route: Route, routes: Sequence[RawObject]
) -> tuple[RawObject | None, Problem | None]:
    """The HTTPRoute; neither it nor a problem where none is needed."""
    namespace = owner["metadata"]["namespace"]
    if traffic.route_ref is None:
        parents = [_parent(each.model_dump(by_alias=True, exclude_none=True)) for each in traffic.parent_refs]
        body: dict[str, Any] = {"parentRefs": parents, "rules": _own_rules(owner, spec, route)}
        if traffic.hosts:
            body["hostnames"] = list(traffic.hosts)
        return _object(owner, traffic, body), _conflict(owner, body, routes)
    name = traffic.route_ref.name
    theirs = one_of(routes, namespace, name)
    if theirs is None:
        message = f"spec.traffic.routeRef: there is no HTTPRoute {name} in this namespace; create it or name another"
        return None, Problem("RouteNotFound", message)
    ours = [rule for rule in theirs["spec"].get("rules") or () if _backend(rule, owner)]
    if not ours:
        service = routed_services.stable_name(owner)
        message = (
            f"spec.traffic.routeRef: no rule of HTTPRoute {name} has Service {service} among its backendRefs; add it"
        )
        return None, Problem("RouteWithoutService", message)
    if route.header is None or route.candidate is None:
        return None, None
    copies = (_copied(rule, owner, route.header, route.candidate) for rule in ours)
    rules = [each for each in copies if each]
    body = {key: theirs["spec"][key] for key in ("parentRefs", "hostnames") if theirs["spec"].get(key)}
    return _object(owner, traffic, {**body, "rules": rules}), None


def _own_rules(owner: RawObject, spec: EdgeDeploymentSpec, route: Route) -> list[dict[str, Any]]:
    """The header first, the weights last."""
    port = spec.serving.ports.http
    rules: list[dict[str, Any]] = []
    if route.header and route.candidate:
        rules.append(
            {
                "matches": [header_match(ANY_PATH, route.header)],
                "backendRefs": [_reference(owner, route.candidate, port, 1)],
            }
        )
    last: dict[str, Any] = {
        "matches": [ANY_PATH],
        "backendRefs": [_reference(owner, revision, port, share) for revision, share in route.shares],
    }
    if route.mirror and route.candidate:
        to = {key: value for key, value in _reference(owner, route.candidate, port, 1).items() if key != "weight"}
        mirror: dict[str, Any] = {"backendRef": to}
        if route.mirror < 100:
            mirror["percent"] = route.mirror
        last["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]
    return [*rules, last]


def _copied(
    rule: Mapping[str, Any], owner: RawObject, header: tuple[str, str], candidate: str
) -> dict[str, Any] | None:
    """A rule of the user's for the requests with the header; ``None`` where all its matches speak of that header."""
    tried = (header_match(each, header) for each in rule.get("matches") or [ANY_PATH])
    matches = [each for each in tried if each]
    theirs = _backend(rule, owner)
    if not matches or theirs is None:
        return None
    to = _reference(owner, candidate, theirs["port"], 1)
    if theirs.get("filters"):
        to["filters"] = theirs["filters"]
    return {"matches": matches, "backendRefs": [to], **{key: rule[key] for key in _COPIED if rule.get(key)}}


def _backend(rule: Mapping[str, Any], owner: RawObject) -> Mapping[str, Any] | None:
    """The rule's reference to the Service of stable, if it has one."""
    metadata = owner["metadata"]
    for each in rule.get("backendRefs") or ():
        same_space = each.get("namespace") in (None, metadata["namespace"])
        service = (each.get("group") or "", each.get("kind") or "Service") == ("", "Service")
        if service and same_space and each["name"] == routed_services.stable_name(owner) and each.get("port"):
            return dict(each)
    return None


def _reference(owner: RawObject, revision: str, port: int, weight: int) -> dict[str, Any]:
    """A backend, with all that the API server would fill in, so that a comparison is exact."""
    name = routed_services.revision_name(owner, revision)
    return {"group": "", "kind": "Service", "name": name, "port": port, "weight": weight}


def _parent(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"group": GROUP, "kind": "Gateway", **fields}


def _object(owner: RawObject, traffic: Traffic, spec: dict[str, Any]) -> RawObject:
    metadata = owner["metadata"]
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": route_name(owner, traffic),
            "namespace": metadata["namespace"],
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.EDGE_DEPLOYMENT_LABEL: metadata["name"]},
            "ownerReferences": [naming.owner_reference(owner)],
        },
        "spec": spec,
    }


def _used(route: RawObject, owner: RawObject) -> set[str]:
    return set(_revisions(route, owner))


def _revisions(route: RawObject, owner: RawObject) -> Iterable[str]:
    """The revisions that an HTTPRoute of ours sends requests, or copies of them, to."""
    prefix = f"{owner['metadata']['name']}-"
    for rule in route["spec"].get("rules") or ():
        mirrors = [each.get("requestMirror") or {} for each in rule.get("filters") or ()]
        targets = [*(rule.get("backendRefs") or ()), *(each.get("backendRef") or {} for each in mirrors)]
        for each in targets:
            if str(each.get("name", "")).startswith(prefix):
                yield str(each["name"]).removeprefix(prefix)


def _accepted(live: RawObject | None, stated: RawObject) -> tuple[bool, str, str]:
    """Whether every parent has taken it as it is; if not, why, and that as one word."""
    if live is None or not holds(live["spec"], stated["spec"]):
        return False, "the HTTPRoute is being written", "Updating"
    name, generation = live["metadata"]["name"], live["metadata"].get("generation")
    told = (live.get("status") or {}).get("parents") or ()
    for parent in stated["spec"].get("parentRefs") or ():
        wanted = _identity(parent, live)
        answers = [each for each in told if _identity(each.get("parentRef") or {}, live) == wanted]
        if not answers:
            return False, f"no controller has taken HTTPRoute {name} for Gateway {wanted[1]} yet", "RouteNotAccepted"
        for type_ in ("Accepted", "ResolvedRefs"):
            for answer in answers:
                found = conditions.find(answer.get("conditions") or (), type_) or {}
                if found.get("observedGeneration") != generation:
                    return False, f"Gateway {wanted[1]} has not looked at HTTPRoute {name} yet", "RouteNotAccepted"
                if found.get("status") != "True":
                    why = f"{found.get('reason')}: {found.get('message')}"
                    return (
                        False,
                        f"Gateway {wanted[1]} says {type_}=False of HTTPRoute {name}: {why}",
                        "RouteNotAccepted",
                    )
    return True, "", ""


def _identity(parent: Mapping[str, Any], route: RawObject) -> tuple[Any, ...]:
    space = parent.get("namespace") or route["metadata"]["namespace"]
    return space, parent.get("name"), parent.get("sectionName"), parent.get("port")


def _conflict(owner: RawObject, ours: Mapping[str, Any], routes: Iterable[RawObject]) -> Problem | None:
    """An older route of somebody else's that takes all requests of one of our hosts at one of our Gateways."""
    at = {(each.get("namespace") or owner["metadata"]["namespace"], each["name"]) for each in ours["parentRefs"]}
    hosts = set(ours.get("hostnames") or ())
    own = one_of(list(routes), owner["metadata"]["namespace"], owner["metadata"]["name"])
    born = own["metadata"].get("creationTimestamp", "") if own is not None and is_owned(own, owner) else ""
    for each in routes:
        metadata, theirs = each["metadata"], each["spec"]
        if is_owned(each, owner) or (born and metadata.get("creationTimestamp", "") >= born):
            continue
        parents = {
            (one.get("namespace") or metadata["namespace"], one["name"]) for one in theirs.get("parentRefs") or ()
        }
        their_hosts = set(theirs.get("hostnames") or ())
        shared = bool(hosts & their_hosts) if hosts and their_hosts else hosts == their_hosts
        if at & parents and shared and any(_takes_all(rule) for rule in theirs.get("rules") or [{}]):
            name = f"{metadata['namespace']}/{metadata['name']}"
            return Problem(
                "HostConflict",
                f"spec.traffic: HTTPRoute {name} is older and takes all requests of the same host at the same Gateway:"
                " name it in spec.traffic.routeRef, or other hosts",
            )
    return None


def _takes_all(rule: Mapping[str, Any]) -> bool:
    matches = rule.get("matches") or [ANY_PATH]
    return any(set(each) == {"path"} and each["path"] == ANY_PATH["path"] for each in matches)
