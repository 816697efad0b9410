"""The source of a training job's code: the pod that finds out its commit, and the container that brings it to a step.

Git is spoken in pods only: the operator reaches no repository and reads no Secret. How the commit is found once, and
stands from then on, is ``resolution.py``'s.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from modelfleet.api import names, wire
from modelfleet.api.model_version import Channel, Dvc
from modelfleet.api.training_job import Source, SourceGit, TrainingJobSpec
from modelfleet.plan import channel, job_state, naming, pods
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training import errand

RESOLVE: Final = "resolve"
"""Name of the container that finds out the commit."""

_DEADLINE_SECONDS: Final = 3600


def revision(obj: Mapping[str, Any]) -> str | None:
    """The commit that was found, and stands; ``None`` while there is none."""
    found: str | None = ((obj.get("status") or {}).get("source") or {}).get("revision")
    return found


def secrets(spec: TrainingJobSpec, *, pulls: bool) -> list[str | None]:
    """The Secrets that open the repository and DVC's remote; only our own containers see them."""
    if spec.source is None:
        return []
    held = [spec.source.git.secret_ref]
    if pulls and spec.source.dvc is not None:
        held.append(spec.source.dvc.secret_ref)
    return [each.name for each in held if each is not None]


def folder(spec: TrainingJobSpec, root: str) -> str:
    """Where a step's program starts: the project's folder in the commit."""
    path = spec.source.git.path if spec.source is not None else None
    return f"{root}/{path}" if path else root


def job_name(training_job: str, attempt: int) -> str:
    """Name of the Job of one attempt at finding the commit; longer than a step's name may be, so no step's Job."""
    return naming.joined(training_job, "resolve-git-source", str(attempt))


def job(
    obj: RawObject,
    spec: TrainingJobSpec,
    git: SourceGit,
    attempt: int,
    placement: Mapping[str, Any],
    installation: Installation,
) -> RawObject:
    """The Job that finds out the commit, once. It runs where the steps do: their way to the repository is tried."""
    held = [git.secret_ref.name if git.secret_ref else None]
    order = wire.ResolveOrder(
        repository=git.repository,
        revision=git.revision,
        path=git.path or "",
        credentials_path=pods.credentials_path(held[0]),
        trust=[
            wire.RefTrust(kind=rule.kind, pattern=rule.pattern, trust=channel.ORDER.index(rule.channel))
            for rule in installation.channels
        ],
    )
    return errand.job(
        obj,
        spec,
        installation,
        name=job_name(obj["metadata"]["name"], attempt),
        labels={names.ATTEMPT_LABEL: str(attempt)},
        program=RESOLVE,
        verb="resolve",
        order=order,
        held=held,
        # A commit is fetched whole, and Git's objects are read in memory.
        memory_limit="2Gi",
        limits={"backoffLimit": 0, "activeDeadlineSeconds": _DEADLINE_SECONDS},
        restart="Never",
        placement=placement,
    )


def checkout(
    origin: Source,
    commit: str,
    root: str,
    workspace: Mapping[str, Any],
    installation: Installation,
    resources: Mapping[str, Any],
    *,
    pulls: bool,
) -> dict[str, Any]:
    """The init container that brings exactly this commit to ``root``; where ``pulls``, with DVC's data."""
    git, dvc = origin.git, origin.dvc if pulls else None
    held = [each.secret_ref.name for each in (git, dvc) if each is not None and each.secret_ref is not None]
    order = wire.CheckoutOrder(
        repository=git.repository,
        commit=commit,
        path=git.path or "",
        folder=root,
        credentials_path=pods.credentials_path(git.secret_ref.name if git.secret_ref else None),
        pull=wire.PullOrder(
            remote=dvc.remote or "",
            targets=dvc.targets,
            credentials_path=pods.credentials_path(dvc.secret_ref.name if dvc.secret_ref else None),
        )
        if dvc is not None
        else None,
    )
    return pods.runtime_container(
        job_state.SOURCE,
        "checkout",
        order,
        image=installation.runtime_image,
        pull_policy=installation.image_pull_policy,
        mounts=[workspace, *pods.credentials_mounts(held)],
        resources=resources,
    )


def read(job_pods: Iterable[Mapping[str, Any]]) -> wire.ResolveReport | None:
    """The report of a resolving pod; ``None`` where there is none, or none that can be read."""
    for pod in job_pods:
        for ended in job_state.exits(pod):
            if ended.container == RESOLVE:
                try:
                    return wire.ResolveReport.model_validate_json(ended.message)
                except ValidationError:
                    return None
    return None


def channel_of(refs: Iterable[str], rules: Iterable[channel.ChannelRule]) -> Channel | None:
    """The most trusted channel of the branches and tags a commit was found by; ``None`` for a commit of none."""
    rules = list(rules)
    found = [
        channel.of("tag" if ref.startswith("refs/tags/") else "branch", ref.split("/", 2)[2], rules)
        for ref in refs
        if ref.startswith(("refs/tags/", "refs/heads/"))
    ]
    return max(found, key=channel.ORDER.index, default=None)


def recorded(report: wire.ResolveReport) -> dict[str, Any] | None:
    """What DVC recorded, as ``lineage.dvc`` has it; ``None`` where it recorded nothing, or nothing that may be kept."""
    if not report.params and not report.data:
        return None
    fields = {
        "revision": report.commit,
        "params": report.params,
        "data": [each.model_dump(by_alias=True, exclude_none=True) for each in report.data],
    }
    try:
        return Dvc.model_validate(fields).model_dump(by_alias=True, exclude_defaults=True)
    except ValidationError:
        return None
