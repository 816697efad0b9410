"""The Jobs of a TrainingJob that run a program of ours for an answer: what its commit is, what an attempt reported.

What is asked and what the answer means is ``source.py``'s and ``recall.py``'s.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from modelfleet.api import names, wire
from modelfleet.api.training_job import TrainingJobSpec
from modelfleet.plan import naming, pods
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import RawObject


def job(
    obj: RawObject,
    spec: TrainingJobSpec,
    installation: Installation,
    *,
    name: str,
    labels: Mapping[str, str],
    program: str,
    verb: str,
    order: wire.Wire,
    held: Sequence[str | None],
    memory_limit: str,
    limits: Mapping[str, int],
    restart: Literal["Never", "OnFailure"],
    placement: Mapping[str, Any],
) -> RawObject:
    """The Job: ``held`` are its Secrets for stores, ``limits`` those of the Job's tries and time."""
    metadata = obj["metadata"]
    carried = {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.TRAINING_JOB_LABEL: metadata["name"], **labels}
    container = pods.runtime_container(
        program,
        verb,
        order,
        image=installation.runtime_image,
        pull_policy=installation.image_pull_policy,
        mounts=pods.credentials_mounts(held),
        resources=pods.resources(memory_limit=memory_limit),
    )
    pull_secrets = [*(secret.name for secret in spec.image_pull_secrets), *installation.image_pull_secrets]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": carried,
            "ownerReferences": [naming.owner_reference(obj)],
        },
        "spec": {
            **limits,
            "template": {
                "metadata": {"labels": carried},
                "spec": {
                    **pods.pod_basics(pull_secrets),
                    "restartPolicy": restart,
                    "containers": [container],
                    "volumes": [dict(pods.TMP_VOLUME), *pods.credentials_volumes(held)],
                    **placement,
                },
            },
        },
    }
