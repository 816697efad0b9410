"""Hashing a version's artifacts in the cluster: the Job of one attempt, and what came of it.

An attempt is a create-only Job. Its pod reports in the termination message, so it needs no right on the API server.
Wrong bytes are final, as the spec is immutable; a store that is down, or that refuses us, is tried again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from modelfleet.api import names, wire
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import job_state, naming, pods
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject

CONTAINER: Final = "verify"
KEPT_SECONDS: Final = 600
"""How long a finished Job stays for its log to be read."""

FINAL_REASONS: Final = frozenset({"HashMismatch", "SizeMismatch"})
"""Findings that another attempt cannot change."""

_GRACE_SECONDS: Final = 600
_SLOWEST_BYTES_PER_SECOND: Final = 1 << 20
_ORDER_OF_REASONS: Final = ("HashMismatch", "SizeMismatch", "Unauthorized", "Unreachable", "Invalid", "NoSpace")

_REMEDIES: Final = {
    "HashMismatch": "put the registered file back and create the ModelVersion again, or register a new version",
    "SizeMismatch": "put the registered file back and create the ModelVersion again, or register a new version",
    "Unauthorized": "check credentialsSecretRef and the rights of that account in the store",
    "Unreachable": "check the URI and that the store answers from inside the cluster",
}


@dataclass(frozen=True)
class Finding:
    """What one attempt found."""

    reason: str
    """Empty: every artifact is verified."""
    message: str
    files: tuple[wire.VerifiedFile, ...] = ()

    @property
    def final(self) -> bool:
        """Whether no further attempt is made."""
        return not self.reason or self.reason in FINAL_REASONS


def job_name(version: str, attempt: int) -> str:
    """Name of the Job of one attempt."""
    return naming.joined("verify", version, str(attempt))


def job(obj: RawObject, spec: ModelVersionSpec, attempt: int, installation: Installation) -> RawObject:
    """The Job that verifies the ModelVersion ``obj``, once."""
    name = obj["metadata"]["name"]
    secrets = [artifact.credentials_secret_ref.name for artifact in spec.artifacts if artifact.credentials_secret_ref]
    labels = {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        names.MODEL_VERSION_LABEL: name,
        names.VERIFICATION_LABEL: "true",
        names.ATTEMPT_LABEL: str(attempt),
    }
    container = pods.runtime_container(
        CONTAINER,
        "verify",
        order(spec),
        image=installation.runtime_image,
        pull_policy=installation.image_pull_policy,
        mounts=pods.credentials_mounts(secrets),
        resources={"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(name, attempt),
            "namespace": obj["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [naming.owner_reference(obj)],
        },
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "activeDeadlineSeconds": _deadline(spec),
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **pods.pod_basics(),
                    "restartPolicy": "Never",
                    "affinity": _AWAY_FROM_THE_EDGE,
                    "containers": [container],
                    "volumes": [dict(pods.TMP_VOLUME), *pods.credentials_volumes(secrets)],
                },
            },
        },
    }


def order(spec: ModelVersionSpec) -> wire.VerifyOrder:
    """What the Job is told to hash."""
    return wire.VerifyOrder(
        files=[
            wire.StoredFile(
                name=artifact.name,
                uri=artifact.uri,
                sha256=artifact.sha256,
                size_bytes=artifact.size_bytes,
                credentials_path=pods.credentials_path(
                    artifact.credentials_secret_ref.name if artifact.credentials_secret_ref else None
                ),
            )
            for artifact in spec.artifacts
        ]
    )


def has_report(job_pods: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the verifying container is known to have ended; else the pods are worth a fresh look."""
    return any(ended.container == CONTAINER for pod in job_pods for ended in job_state.exits(pod))


def read(spec: ModelVersionSpec, ended: job_state.Ending, job_pods: Iterable[Mapping[str, Any]]) -> Finding:
    """What a finished Job found, from its pod's termination message."""
    exits = [each for pod in job_pods for each in job_state.exits(pod) if each.container == CONTAINER]
    if ended.reason == "DeadlineExceeded":
        return Finding(
            "Unreachable", f"verification did not end within {_deadline(spec)} s: {_REMEDIES['Unreachable']}"
        )
    if not exits:
        return Finding("ReportLost", "the verifying pod is gone and left no report; it is tried again")
    try:
        report = wire.VerifyReport.model_validate_json(exits[0].message)
    except ValidationError:
        return Finding("ReportLost", f"the verifying pod left no report: {job_state.describe(exits[0])}")
    return judge(spec, report)


def judge(spec: ModelVersionSpec, report: wire.VerifyReport) -> Finding:
    """The finding that a report comes to: an artifact it does not speak of is not verified."""
    by_name = {file.name: file for file in report.artifacts}
    files = [by_name.get(artifact.name) or _silent(artifact.name, by_name.get("order")) for artifact in spec.artifacts]
    failed = [file for file in files if not file.verified]
    if not failed:
        return Finding("", f"all {len(files)} artifacts have the registered digest", tuple(files))
    worst = min(failed, key=lambda file: _ORDER_OF_REASONS.index(file.reason or "Invalid"))
    reason = worst.reason or "Invalid"
    others = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
    remedy = f"; {_REMEDIES[reason]}" if reason in _REMEDIES else ""
    return Finding(reason, f"artifact {worst.name}{others}: {worst.message}{remedy}", tuple(files))


def _silent(name: str, refused: wire.VerifiedFile | None) -> wire.VerifiedFile:
    message = refused.message if refused is not None else "the verifying pod did not report on it"
    return wire.VerifiedFile(name=name, verified=False, reason="Invalid", message=message)


def _deadline(spec: ModelVersionSpec) -> int:
    """Seconds for one attempt: some for the image and the queue, and what the slowest tolerable store needs."""
    return _GRACE_SECONDS + sum(artifact.size_bytes for artifact in spec.artifacts) // _SLOWEST_BYTES_PER_SECOND


_AWAY_FROM_THE_EDGE: Final = {
    # Hashing belongs near the store; a gateway is taken only where a cluster has nothing else.
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "preference": {
                    "matchExpressions": [{"key": "node-role.kubernetes.io/edge", "operator": "DoesNotExist"}]
                },
            }
        ]
    }
}
