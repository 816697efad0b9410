"""Which release a fleet shall be on, and whether it may be moved there.

Reads as a list of gates: what the spec asks for is resolved, then refused with a reason or let through. Stable goes
on in any case. How the fleet gets there is ``waves.py``'s.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from modelfleet.api.edge_deployment import EdgeDeploymentSpec
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import channel, conditions
from modelfleet.plan.edge import commands, revision, waves
from modelfleet.plan.edge.commands import Orders
from modelfleet.plan.edge.revision import Model, Release
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.traffic import analysis, canary_state

NO_STABLE: Final = "NoStableRevision"

Kept = Mapping[str, tuple[int, Release]]
"""The releases in the cluster by revision, each with its number in the history."""


@dataclass(frozen=True)
class Problem:
    """Why something is not as the spec asks, in words that name the field and the remedy."""

    reason: str
    message: str
    heals: bool = False
    """Whether it is expected to pass by itself, as a verification under way does."""


@dataclass(frozen=True)
class Aim:
    """Where the fleet shall go."""

    target: Release | None
    """What the fleet is judged by: what the spec asks for, or stable where that is refused."""
    stable: Release | None
    candidate: Release | None = None
    """The revision that was under way when the plan was made."""
    problem: Problem | None = None
    """Why no node may be moved to what the spec asks for."""
    refused: bool = False
    """Whether the target is not what the spec asks for, so that nothing is moved to it either."""
    orders: Orders = field(default_factory=lambda: Orders(""))
    """What was commanded, and what follows from it."""
    cause: Problem | None = None
    """Why the revision that ``orders.aborted`` names was aborted."""

    @property
    def settled(self) -> bool:
        """Whether the target is stable already, so that waves do not apply."""
        return self.target is not None and self.stable is not None and self.target.revision == self.stable.revision

    @property
    def in_doubt(self) -> bool:
        """Whether the target itself may not be served by more nodes for now; going back from another one may."""
        return self.problem is not None and not (self.aborted and self.settled)

    @property
    def aborted(self) -> bool:
        """Whether the revision that the spec asks for was aborted: the fleet goes back to stable, or stays there."""
        return self.orders.is_aborted


def decide(
    spec: EdgeDeploymentSpec,
    status: Mapping[str, Any],
    annotations: Mapping[str, str],
    model_version: RawObject | None,
    kept: Kept,
    votes: Counter[str],
    installation: Installation,
    noted: Callable[[Release], int] = lambda _: 0,
) -> Aim:
    """Resolve the spec and pass it through the gates.

    ``votes`` counts nodes and replicas by revision, ``noted`` tells of which attempt the latest failure is noted.
    """
    stable = _stable(status, kept, votes)
    candidate = _kept(status.get("candidate"), kept)
    model, problem = _model(spec, model_version)
    if model is None:
        # A ModelVersion that is gone, or is being verified anew, does not unsettle what was verified and released.
        source = next((each for each in (stable, candidate) if each and each.model_version == spec.model_version), None)
        model = revision.model_in(source) if source else None
    hash_ = revision.revision_hash(spec, model.snapshot_hash) if model else ""
    target = None
    if model is not None:
        target = kept[hash_][1] if hash_ in kept else revision.resolve(spec, model, installation)
    scopes = [*waves.names(spec.strategy.waves), *canary_state.scopes(spec.canary)]
    orders = commands.obey(annotations, status, hash_, scopes, noted(target) if target else 0)
    cause = _cause(status, orders)
    if target is None:
        return Aim(stable, stable, candidate, problem, refused=True, orders=orders, cause=cause)
    aim = Aim(target, stable, candidate, orders=orders, cause=cause)
    under_way = candidate is not None and candidate.revision == hash_
    if aim.settled:
        return aim
    if cause is not None and aim.aborted:
        return replace(aim, target=stable or target, problem=_aborted(stable, orders, cause))
    if problem is None and not under_way and (stable is None or stable.model_version != spec.model_version):
        problem = _deprecated(spec, model_version)
    if problem is None:
        problem = _channel(spec, model_version) or _analysis(spec, installation)
    if problem is None:
        return aim
    if under_way:
        return replace(aim, problem=problem)
    return replace(aim, target=stable, problem=problem, refused=True)


def _cause(status: Mapping[str, Any], orders: Orders) -> Problem | None:
    """Why a revision was aborted: as the condition Progressing remembers it, or by command just now."""
    if not orders.aborted:
        return None
    said = conditions.find(status.get("conditions") or (), "Progressing") or {}
    if status.get("abortedRevision") == orders.aborted and said.get("status") == "False" and said.get("message"):
        return Problem(str(said.get("reason")), str(said["message"]))
    return Problem("Aborted", f"revision {orders.aborted} was aborted")


def _aborted(stable: Release | None, orders: Orders, cause: Problem) -> Problem:
    done = f"rolled back to {stable.model_version}: " if stable else "nothing to go back to: "
    remedy = f"; annotate {commands.example('retry', orders)} to try again, or change spec"
    why = conditions.shorten(cause.message, conditions.MESSAGE_LENGTH - len(done) - len(remedy))
    return Problem(cause.reason if stable else NO_STABLE, done + why + remedy)


def _model(spec: EdgeDeploymentSpec, model_version: RawObject | None) -> tuple[Model | None, Problem | None]:
    name = spec.model_version
    if model_version is None or "deletionTimestamp" in model_version["metadata"]:
        return None, Problem(
            "ModelVersionNotFound",
            f"spec.modelVersion: there is no ModelVersion {name} in this namespace; create it or name another",
        )
    status = model_version.get("status") or {}
    verified = conditions.find(status.get("conditions") or (), "Verified") or {}
    if verified.get("status") == "True" and status.get("snapshotHash"):
        return revision.model_of(
            name, ModelVersionSpec.model_validate(model_version["spec"]), status["snapshotHash"]
        ), None
    if verified.get("status") == "False":
        why = f"{verified.get('reason')}: {verified.get('message')}".removesuffix(": ")
        return None, Problem(
            "ModelVersionNotVerified",
            f"ModelVersion {name} is not verified ({conditions.shorten(why, 150)}); see kubectl describe mv {name}",
        )
    return None, Problem("ModelVersionNotVerified", f"waits until ModelVersion {name} is verified", heals=True)


def _deprecated(spec: EdgeDeploymentSpec, model_version: RawObject | None) -> Problem | None:
    if model_version is None or not model_version["spec"].get("deprecated"):
        return None
    return Problem(
        "ModelVersionDeprecated",
        f"spec.modelVersion: ModelVersion {spec.model_version} is deprecated and not rolled out anew; name another, "
        "or set its spec.deprecated to false",
    )


def _channel(spec: EdgeDeploymentSpec, model_version: RawObject | None) -> Problem | None:
    """Also holds a rollout under way, where minimumChannel was raised meanwhile."""
    why = channel.refusal(model_version["spec"].get("channel"), spec.minimum_channel) if model_version else ""
    return Problem("ChannelTooLow", f"spec.modelVersion: {spec.model_version} {why}") if why else None


def _analysis(spec: EdgeDeploymentSpec, installation: Installation) -> Problem | None:
    """A canary that could not be judged is not begun."""
    address = analysis.forbidden_address(spec.canary.analysis if spec.canary else None, installation)
    if not address:
        return None
    return Problem(
        "AnalysisAddressNotAllowed",
        f"spec.canary.analysis: {conditions.shorten(address, 80)} is none of the installation's Prometheus servers; add"
        " it to the chart's value analysis.prometheusAddresses, or name one of them",
    )


def _stable(status: Mapping[str, Any], kept: Kept, votes: Counter[str]) -> Release | None:
    if status.get("stable"):
        return _kept(status["stable"], kept)
    if status.get("candidate"):
        # A first rollout is under way: nothing is stable yet.
        return None
    # The status was lost: stable is what most of the fleet is on. Alone on the field, it may as well be the candidate
    # of a first rollout, which the waves bring to the same end.
    known = [(count, each) for each, count in votes.items() if each in kept]
    return kept[max(known)[1]][1] if len(known) > 1 or (known and not votes[""]) else None


def _kept(reference: Mapping[str, Any] | None, kept: Kept) -> Release | None:
    number_and_release = kept.get((reference or {}).get("revision", ""))
    return number_and_release[1] if number_and_release else None
