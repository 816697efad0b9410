"""Verifying a version's artifacts in the cluster: the Job of one attempt, and what came of it.

An attempt is a create-only Job. Its pod reports in the termination message, so it needs no right on the API server.
Wrong bytes are final, as the spec is immutable; a store that is down, or that refuses us, is tried again. When an
attempt begins is ``attempts.py``'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from modelfleet.api import names, wire
from modelfleet.api.common import SecretReference
from modelfleet.api.model_version import ModelVersionSpec
from modelfleet.plan import job_state, naming, pods
from modelfleet.plan.conditions import Condition
from modelfleet.plan.edge import provider
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject

CONTAINER: Final = "verify"
KEPT_SECONDS: Final = 600
"""How long a finished Job stays for its log to be read."""

FINAL_REASONS: Final = frozenset(
    {"HashMismatch", "SizeMismatch", "InvalidModel", "InterfaceMismatch", "PrecisionMismatch"}
)
"""Findings that another attempt at the same bytes does not change."""

CONCLUSIVE_REASONS: Final = FINAL_REASONS | {"Unsigned", "SignatureInvalid"}
"""Findings against the artifact itself: they take a verification back. Others say only that nothing was found out."""

SCRATCH: Final = "/scratch"
"""Where the verifying pod keeps ONNX models while it tries them."""

_GRACE_SECONDS: Final = 600
_SECONDS_A_MODEL: Final = 480
"""For each ONNX artifact: to be loaded, and loaded again and run."""
_SLOWEST_BYTES_PER_SECOND: Final = 1 << 20
_BASE_MEMORY: Final = 512 << 20
_MEMORY_FACTOR: Final = 4
"""Memory that a model takes in ONNX Runtime, in multiples of its file: the file, its weights, their rearrangement."""
_SPARE_BYTES: Final = 256 << 20
"""Room for inputs, outputs and samples beside the models."""

_ORDER_OF_REASONS: Final = (
    "HashMismatch",
    "SizeMismatch",
    "SignatureInvalid",
    "Unsigned",
    "InvalidModel",
    "InterfaceMismatch",
    "PrecisionMismatch",
    "InvalidSamples",
    "OutOfMemory",
    "TimedOut",
    "Unauthorized",
    "Unreachable",
    "Invalid",
    "NoSpace",
)

_AGAIN: Final = "annotate it modelfleet.dev/verify=<a new value>"
_REMEDIES: Final = {
    "HashMismatch": f"put the registered file back and {_AGAIN}, or register a new version",
    "SizeMismatch": f"put the registered file back and {_AGAIN}, or register a new version",
    "SignatureInvalid": "sign the registered file with a key that the installation trusts",
    "Unsigned": "sign it and put the signature there",
    "InvalidModel": "register a new version, or set spec.verification.inference to None where it needs operators of its"
    f" own, and {_AGAIN}",
    "InterfaceMismatch": "register a new version whose artifacts take and give the same",
    "PrecisionMismatch": f"register a new version, or raise spec.verification.tolerance and {_AGAIN}",
    "InvalidSamples": "correct spec.verification.samples",
    "OutOfMemory": "raise spec.verification.memoryLimit",
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
    def is_final(self) -> bool:
        """Whether no further attempt is made by itself."""
        return not self.reason or self.reason in FINAL_REASONS

    @property
    def is_conclusive(self) -> bool:
        """Whether it says something about the artifacts, and not only that nothing was found out."""
        return not self.reason or self.reason in CONCLUSIVE_REASONS


def job_name(version: str, attempt: int) -> str:
    """Name of the Job of one attempt."""
    return naming.joined("verify", version, str(attempt))


def job(obj: RawObject, spec: ModelVersionSpec, attempt: int, installation: Installation) -> RawObject:
    """The Job that verifies the ModelVersion ``obj``, once."""
    name = obj["metadata"]["name"]
    secrets = _secrets(spec)
    models = _models(spec)
    scratch_mounts = [{"name": "scratch", "mountPath": SCRATCH}] if models else []
    scratch = {"name": "scratch", "emptyDir": {"sizeLimit": str(sum(models) + _SPARE_BYTES)}}
    labels = {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        names.MODEL_VERSION_LABEL: name,
        names.VERIFICATION_LABEL: "true",
        names.ATTEMPT_LABEL: str(attempt),
    }
    container = pods.runtime_container(
        CONTAINER,
        "verify",
        order(obj, spec, installation),
        image=installation.runtime_image,
        pull_policy=installation.image_pull_policy,
        mounts=[*scratch_mounts, *pods.credentials_mounts(secrets)],
        resources=_resources(spec, models),
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
                    **pods.pod_basics(installation.image_pull_secrets),
                    "restartPolicy": "Never",
                    "affinity": _AWAY_FROM_THE_EDGE,
                    "containers": [container],
                    "volumes": [
                        dict(pods.TMP_VOLUME),
                        *([scratch] if models else ()),
                        *pods.credentials_volumes(secrets),
                    ],
                },
            },
        },
    }


def order(obj: RawObject, spec: ModelVersionSpec, installation: Installation) -> wire.VerifyOrder:
    """What the Job is told to verify."""
    return wire.VerifyOrder(
        files=[
            wire.CheckedFile(
                name=artifact.name,
                uri=artifact.uri,
                sha256=artifact.sha256,
                size_bytes=artifact.size_bytes,
                credentials_path=_credentials(artifact.credentials_secret_ref),
                format=artifact.format,
                precision=artifact.precision,
                accelerated=bool(artifact.accelerators),
                signature_uri=artifact.signature_uri or f"{artifact.uri}.sig",
            )
            for artifact in spec.artifacts
        ],
        inference=_inference(spec),
        signing=_signing(obj["metadata"]["namespace"], installation),
    )


def _inference(spec: ModelVersionSpec) -> wire.InferenceCheck | None:
    if not _models(spec):
        return None
    wanted = spec.verification
    if wanted is None:
        return wire.InferenceCheck(folder=SCRATCH)
    samples = None
    if wanted.samples is not None:
        samples = wire.StoredFile(
            name="samples",
            uri=wanted.samples.uri,
            sha256=wanted.samples.sha256,
            size_bytes=wanted.samples.size_bytes,
            credentials_path=_credentials(wanted.samples.credentials_secret_ref),
        )
    tolerance = float(wanted.tolerance) if wanted.tolerance is not None else None
    return wire.InferenceCheck(folder=SCRATCH, tolerance=tolerance, samples=samples)


def _signing(namespace: str, installation: Installation) -> wire.SigningCheck | None:
    if installation.signatures == "Ignore":
        return None
    keys = [
        wire.PublicKey(name=key.name, pem=key.pem)
        for key in installation.public_keys
        if not key.namespaces or namespace in key.namespaces
    ]
    return wire.SigningCheck(required=installation.signatures == "Require", keys=keys)


def _models(spec: ModelVersionSpec) -> list[int]:
    """The lengths of the artifacts that are loaded."""
    if spec.verification is not None and spec.verification.inference == "None":
        return []
    return [artifact.size_bytes for artifact in spec.artifacts if artifact.format == "onnx"]


def _resources(spec: ModelVersionSpec, models: list[int]) -> dict[str, Any]:
    """A scheduler finds a node with room for the files; memory is bounded, so that a model takes no node down."""
    if not models:
        return pods.resources(memory_limit="512Mi")
    wanted = spec.verification.memory_limit if spec.verification is not None else None
    limit = str(wanted) if wanted is not None else str(_BASE_MEMORY + _MEMORY_FACTOR * max(models))
    asked = pods.resources(memory_limit=limit)
    asked["requests"]["ephemeral-storage"] = str(sum(models))
    return asked


def _secrets(spec: ModelVersionSpec) -> list[str]:
    references = [artifact.credentials_secret_ref for artifact in spec.artifacts]
    if spec.verification is not None and spec.verification.samples is not None:
        references.append(spec.verification.samples.credentials_secret_ref)
    return [reference.name for reference in references if reference is not None]


def _credentials(reference: SecretReference | None) -> str | None:
    return pods.credentials_path(reference.name if reference is not None else None)


def has_report(job_pods: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the verifying container is known to have ended; else the pods are worth a fresh look."""
    return any(ended.container == CONTAINER for pod in job_pods for ended in job_state.exits(pod))


def read(spec: ModelVersionSpec, ended: job_state.Ending, job_pods: Iterable[Mapping[str, Any]]) -> Finding:
    """What a finished Job found, from its pod's termination message."""
    exits = [each for pod in job_pods for each in job_state.exits(pod) if each.container == CONTAINER]
    if ended.reason == "DeadlineExceeded":
        message = f"verification did not end within {_deadline(spec)} s: see that its pod can start; "
        return Finding("Unreachable", message + _REMEDIES["Unreachable"])
    if exits and exits[0].reason == "OOMKilled":
        message = f"the verifying pod took more memory than it may have; {_REMEDIES['OutOfMemory']}"
        return Finding("OutOfMemory", message)
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
        return Finding("", _praise(files), tuple(files))
    worst = min(failed, key=lambda file: _ORDER_OF_REASONS.index(file.reason or "Invalid"))
    reason = worst.reason or "Invalid"
    others = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
    remedy = f"; {_REMEDIES[reason]}" if reason in _REMEDIES else ""
    return Finding(reason, f"artifact {worst.name}{others}: {worst.message}{remedy}", tuple(files))


def verdict(finding: Finding) -> Condition:
    """The condition Verified, as a finding has it."""
    return Condition("Verified", "False" if finding.reason else "True", finding.reason or "Verified", finding.message)


def _praise(files: list[wire.VerifiedFile]) -> str:
    """What was found good, and no more than that."""
    text = f"all {len(files)} artifacts have the registered digest"
    if alike := [file for file in files if file.agreement is not None and not file.message]:
        text += f", {1 + len(alike)} agree with each other"
    if all(file.signed_by for file in files):
        text += f", signed by {', '.join(sorted({file.signed_by or '' for file in files}))}"
    return text


def _silent(name: str, refused: wire.VerifiedFile | None) -> wire.VerifiedFile:
    message = refused.message if refused is not None else "the verifying pod did not report on it"
    return wire.VerifiedFile(name=name, verified=False, reason="Invalid", message=message)


def _deadline(spec: ModelVersionSpec) -> int:
    """Seconds for one attempt: for image and queue, what the slowest tolerable store needs, and loading."""
    transfer = sum(artifact.size_bytes for artifact in spec.artifacts) // _SLOWEST_BYTES_PER_SECOND
    return _GRACE_SECONDS + transfer + _SECONDS_A_MODEL * len(_models(spec))


_AWAY_FROM_THE_EDGE: Final = {
    # Hashing belongs near the store; a gateway is taken only where a cluster has nothing else.
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "preference": {
                    "matchExpressions": [
                        {"key": provider.EDGE_LABEL, "operator": "DoesNotExist"},
                        {"key": provider.YURT_LABEL, "operator": "NotIn", "values": ["true"]},
                    ]
                },
            }
        ]
    }
}
