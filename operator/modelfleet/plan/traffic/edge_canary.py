"""An EdgeDeployment's canary: its situation put together from what is observed, and its decision as a route.

What the decision is, is ``canary.py``'s; how a route becomes objects, ``traffic.py``'s.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.plan.edge.aim import Aim
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic import canary, traffic
from modelfleet.plan.traffic.analysis import Measurement
from modelfleet.plan.traffic.canary_state import Backends, Decision, Situation, Split
from modelfleet.plan.traffic.route import Route


def decide(
    owner: RawObject,
    spec: EdgeDeploymentSpec,
    aim: Aim,
    backends_of: Callable[[str, str], Backends],
    measured: Mapping[str, Measurement],
    now: datetime,
    *,
    first_wave_passed: bool,
    in_force: Callable[[Route], bool],
) -> tuple[Decision | None, Route | None]:
    """The canary's next state and the route; ``None`` where requests do not move, or there is nothing to route to.

    A rollout without ``spec.canary`` has a decision, too: all its requests move at once.

    ``backends_of`` counts the pods of a stable revision and of a candidate; ``in_force`` tells whether requests are
    routed so already.
    """
    if not traffic.is_routed(spec) or aim.target is None:
        return None, None
    if aim.stable is None:
        return None, Route(aim.target.revision)
    before = (owner.get("status") or {}).get("canary") or {}
    stable, target = aim.stable.revision, aim.target.revision
    candidate = before.get("revision") or target

    def route(split: Split) -> Route:
        header = spec.canary.header if spec.canary and split.header else None
        return Route(
            stable,
            candidate if candidate != stable and (target != stable or split != Split()) else None,
            weight=split.weight,
            header=(header.name, header.value) if header else None,
            mirror=split.mirror,
        )

    decision = canary.decide(
        Situation(
            spec=spec.canary,
            before=before,
            stable=stable,
            target=target,
            orders=aim.orders,
            backends=backends_of(stable, candidate),
            # Waves that nobody wrote begin after the canary.
            first_wave_passed=first_wave_passed or not spec.strategy.waves,
            paused=spec.paused or aim.orders.paused or aim.problem is not None,
            annotate=f"kubectl annotate -n {owner['metadata']['namespace']} ed {owner['metadata']['name']}",
            accepted=lambda split: in_force(route(split)),
            measured=measured,
            now=now,
        )
    )
    return decision, route(decision.split)
