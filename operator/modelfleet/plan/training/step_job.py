"""The Job of one attempt at a step: what its pods run, where, and what they are told.

An attempt is a create-only Indexed Job with ``backoffLimit: 0``: an Indexed Job that retries replaces one index, and
a gang that lost a rank must begin again as a whole. The next attempt is another Job.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelfleet.api import names, wire
from modelfleet.api.training_job import Step, TrainingJobSpec
from modelfleet.plan import naming, pods
from modelfleet.plan.installation import Installation, NodePool
from modelfleet.plan.outcome import RawObject
from modelfleet.plan.training import dag, initializer, placement, queueing, rendezvous, reporting_pod, source

SOURCE_PATH: Final = f"{initializer.WORKSPACE}/source"

BY_POLICY: Final = "PodFailurePolicy"
"""Reason of the Failed condition of a Job that a rule of its podFailurePolicy failed."""


@dataclass(frozen=True)
class Told:
    """What an attempt is told of those before it."""

    finish: bool = False
    """It only has to finish what they left in checkpoints: the training was stopped early."""
    priority_class: str = ""
    """Its priority class; empty: as the job's other pods."""


def output_uri(obj: Mapping[str, Any], spec: TrainingJobSpec, step: str, attempt: int) -> str:
    """The folder of this attempt alone. The uid is in it: a job created again never writes over a registered file."""
    metadata = obj["metadata"]
    own = f"{metadata['name']}-{metadata['uid'].split('-')[0]}"
    return f"{spec.output.storage_uri.rstrip('/')}/{own}/{step}/{attempt}"


def job(
    obj: RawObject,
    spec: TrainingJobSpec,
    step: Step,
    attempt: int,
    inputs: Mapping[str, wire.StepInput],
    installation: Installation,
    told: Told = Told(),
) -> RawObject:
    """The Job of one attempt. Raises :class:`~modelfleet.plan.training.placement.UnknownNodePoolError`."""
    metadata = obj["metadata"]
    nodes = step.trainer.num_nodes if step.trainer is not None else 1
    labels = {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        names.TRAINING_JOB_LABEL: metadata["name"],
        names.STEP_LABEL: step.name,
        names.ATTEMPT_LABEL: str(attempt),
    }
    template: dict[str, Any] = {
        "metadata": {"labels": labels},
        "spec": _pod(obj, spec, step, attempt, inputs, installation, told),
    }
    queue = queueing.labels(obj, told.priority_class)
    if told.priority_class and not queue:
        template["spec"]["priorityClassName"] = told.priority_class
    annotations: dict[str, str] = {}
    if step.trainer is not None and step.trainer.framework == "deepspeed":
        annotations[names.HOSTFILE_ANNOTATION] = rendezvous.hostfile(step.trainer, metadata["name"], step.name, attempt)
    if step.trainer is not None and installation.progress is not None:
        annotations |= reporting_pod.annotations(installation.progress)
    if annotations:
        template["metadata"]["annotations"] = annotations
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": rendezvous.job_name(metadata["name"], step.name, attempt),
            "namespace": metadata["namespace"],
            "labels": labels | queue,
            "ownerReferences": [naming.owner_reference(obj)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            "backoffLimit": 0,
            **({"suspend": True} if queueing.queue(obj) else {}),
            "podFailurePolicy": {"rules": _failure_rules(obj, spec, step.name)},
            "template": template,
        },
    }


def checkpoint_root(obj: Mapping[str, Any], spec: TrainingJobSpec, step: Step) -> str | None:
    """The folder of a distributed step's checkpoints; the uid is in it, as in :func:`output_uri`."""
    if spec.checkpoint is None or step.trainer is None:
        return None
    metadata = obj["metadata"]
    return f"{spec.checkpoint.path}/{metadata['name']}-{metadata['uid'].split('-')[0]}/{step.name}"


def _early_stop(spec: TrainingJobSpec, step: Step, told: Told) -> wire.EarlyStopOrder | None:
    rule = spec.termination
    if rule is None or step.trainer is None or rule.metric is None or rule.direction is None:
        return None
    return wire.EarlyStopOrder(
        metric=rule.metric,
        maximize=rule.direction == "Maximize",
        min_delta=rule.min_delta or "0",
        finish=told.finish or None,
    )


def _tells_pressure(spec: TrainingJobSpec, step: Step) -> bool:
    return step.trainer is not None and spec.termination is not None and spec.termination.resource_pressure is not None


def _failure_rules(obj: RawObject, spec: TrainingJobSpec, container: str) -> list[dict[str, Any]]:
    """Any failure fails the Job anyway; these rules make it say why, for the time when its pods are gone.

    A disruption is told from a failure, and a failure with its exit code where something depends on that. Not in a
    queue: the Job controller applies rules to the pods of a suspended Job, too, and a pod that is preempted ends with
    whatever code its program has for being stopped.
    """
    rules: list[dict[str, Any]] = [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    if spec.failure_policy is not None and not queueing.queue(obj):
        failed = {"containerName": container, "operator": "NotIn", "values": [0]}
        rules.append({"action": "FailJob", "onExitCodes": failed})
    return rules


def _pod(
    obj: RawObject,
    spec: TrainingJobSpec,
    step: Step,
    attempt: int,
    inputs: Mapping[str, wire.StepInput],
    installation: Installation,
    told: Told,
) -> dict[str, Any]:
    pool = placement.pool_of(spec, step, installation)
    wanted = initializer.of(spec, step)
    pulls = dag.is_first(step)
    output_secret = spec.output.secret_ref.name if spec.output.secret_ref else None
    workspace = {"name": "workspace", "mountPath": initializer.WORKSPACE}
    mounts = [dict(pods.TMP_MOUNT), workspace, *pods.credentials_mounts([output_secret])]
    volumes = [
        dict(pods.TMP_VOLUME),
        {"name": "workspace", "emptyDir": {}},
        *pods.credentials_volumes([output_secret, *initializer.secrets(wanted), *source.secrets(spec, pulls=pulls)]),
    ]
    if step.trainer is not None:
        # Data loaders and NCCL hand tensors over in shared memory; a container's own /dev/shm has 64 MiB.
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108 - a path inside the container
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory"}})
        if step.trainer.framework == "deepspeed":
            where = {"fieldPath": f"metadata.annotations['{names.HOSTFILE_ANNOTATION}']"}
            mounts.append({"name": "hostfile", "mountPath": rendezvous.HOSTFILE_FOLDER, "readOnly": True})
            volumes.append({"name": "hostfile", "downwardAPI": {"items": [{"path": "hostfile", "fieldRef": where}]}})
        if installation.progress is not None:
            mounts.append(reporting_pod.mount())
            volumes.append(reporting_pod.volume())
    checkpoint = None
    root = checkpoint_root(obj, spec, step)
    if spec.checkpoint is not None and root is not None:
        mounts.append({"name": "checkpoints", "mountPath": spec.checkpoint.path})
        volumes.append(
            {"name": "checkpoints", "persistentVolumeClaim": {"claimName": spec.checkpoint.volume_claim_name}}
        )
        checkpoint = wire.CheckpointOrder(
            root=root, interval_seconds=spec.checkpoint.interval_seconds, keep=spec.checkpoint.keep
        )
    order = wire.StepOrder(
        training_job=obj["metadata"]["name"],
        namespace=obj["metadata"]["namespace"],
        model=spec.model,
        version=spec.version,
        step=step.name,
        attempt=attempt,
        output_uri=output_uri(obj, spec, step.name, attempt),
        credentials_path=pods.credentials_path(output_secret),
        inputs=dict(inputs),
        dataset_path=initializer.DATASET_PATH if wanted.dataset is not None else None,
        model_path=initializer.MODEL_PATH if wanted.model is not None else None,
        checkpoint=checkpoint,
        early_stop=_early_stop(spec, step, told),
        tells_pressure=_tells_pressure(spec, step) or None,
    )
    commit, beside = source.revision(obj), pods.before(_resources(step))
    first = initializer.containers(wanted, workspace, installation, beside)
    if spec.source is not None and commit is not None:
        first.insert(0, source.checkout(spec.source, commit, SOURCE_PATH, workspace, installation, beside, pulls=pulls))
    # With Secrets of its own a pod has none of its ServiceAccount's: ours are added only where our image is needed.
    pulling = [
        *(secret.name for secret in spec.image_pull_secrets),
        *(installation.image_pull_secrets if first else ()),
    ]
    pod: dict[str, Any] = {
        **pods.pod_basics(pulling),
        "restartPolicy": "Never",
        "containers": [_container(obj, spec, step, attempt, order, pool, mounts, installation)],
        "volumes": volumes,
        **placement.fields(spec, pool),
    }
    if first:
        pod["initContainers"] = first
    if rendezvous.is_needed(step):
        pod["subdomain"] = rendezvous.service_name(obj["metadata"]["name"])
    return pod


def _container(
    obj: RawObject,
    spec: TrainingJobSpec,
    step: Step,
    attempt: int,
    order: wire.StepOrder,
    pool: NodePool,
    mounts: list[dict[str, Any]],
    installation: Installation,
) -> dict[str, Any]:
    program = step.trainer or step
    theirs = [variable.model_dump(by_alias=True) for variable in program.env]
    # The user's own word wins: whoever sets PET_RDZV_BACKEND knows why.
    named = {variable["name"] for variable in theirs}
    ours = [
        variable
        for variable in _environment(obj, spec, step, attempt, pool, installation)
        if variable["name"] not in named
    ]
    if order.early_stop is not None and order.early_stop.finish:
        ours.append({"name": "FINISH_EARLY", "value": "true"})
    container: dict[str, Any] = {
        "name": step.name,
        "image": program.image,
        "env": [pods.order_env(order), *ours, *theirs],
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if program.command:
        container["command"] = list(program.command)
    if program.args:
        container["args"] = list(program.args)
    if spec.source is not None:
        container["workingDir"] = source.folder(spec, SOURCE_PATH)
    if asked := _resources(step):
        container["resources"] = asked
    return container


def _resources(step: Step) -> dict[str, Any]:
    """What the step asks for, as the user wrote it."""
    resources = step.trainer.resources_per_node if step.trainer is not None else step.resources
    return resources.model_dump(by_alias=True, exclude_defaults=True) if resources is not None else {}


def _environment(
    obj: RawObject, spec: TrainingJobSpec, step: Step, attempt: int, pool: NodePool, installation: Installation
) -> list[dict[str, Any]]:
    """What any program may want to know, and the rendezvous of a distributed step."""
    plain = {"HOME": "/tmp"}  # noqa: S108 - the one folder that every image can write to
    if spec.source is not None:
        plain["GIT_REPOSITORY"] = spec.source.git.repository
        plain["GIT_COMMIT"] = source.revision(obj) or ""
    if root := checkpoint_root(obj, spec, step):
        # For programs without the train library: an attempt's checkpoints are in the folder of its number.
        plain["CHECKPOINT_ROOT"] = root
        plain["CHECKPOINT_FOLDER"] = f"{root}/{attempt}"
    plain |= placement.communication(step, pool)
    if step.trainer is not None and installation.progress is not None:
        metadata = obj["metadata"]
        plain |= reporting_pod.variables(installation.progress, metadata["namespace"], metadata["name"])
    variables = [{"name": name, "value": value} for name, value in plain.items()]
    if step.trainer is not None:
        variables += rendezvous.variables(step.trainer, obj["metadata"]["name"], step.name, attempt)
    return variables
