"""The names modelfleet puts on other objects: labels, annotations, the field manager.

They are part of the public contract: dashboards, network policies and the admission policies of the chart
select by them. Nothing here computes; building a name from several parts lives in ``plan/naming.py``.
"""

from typing import Final

GROUP: Final = "modelfleet.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

FIELD_MANAGER: Final = "modelfleet"
"""The one field manager of every server-side apply of the operator."""

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "modelfleet"
"""Every child carries ``app.kubernetes.io/managed-by: modelfleet``; the operator watches children by it."""

EDGE_DEPLOYMENT_LABEL: Final = f"{GROUP}/edge-deployment"
"""On workloads, Services and pods: the name of the EdgeDeployment they belong to."""

TRAINING_JOB_LABEL: Final = f"{GROUP}/training-job"
"""On Jobs, Services and pods: the name of the TrainingJob they belong to."""

MODEL_VERSION_LABEL: Final = f"{GROUP}/model-version"
"""On verification Jobs and their pods: the name of the ModelVersion they verify. On serving pods: what they serve."""

VERIFICATION_LABEL: Final = f"{GROUP}/verification"
"""On verification Jobs and pods, ``"true"``: tells them from serving pods, which carry the model version too."""

POOL_LABEL: Final = f"{GROUP}/pool"
ARTIFACT_LABEL: Final = f"{GROUP}/artifact"
PLACEMENT_LABEL: Final = f"{GROUP}/placement"
WORKLOAD_LABEL: Final = f"{GROUP}/workload"
"""On workloads and pods: the hash of what this pool serves; a gateway is moved by writing it on the node."""

REVISION_LABEL: Final = f"{GROUP}/revision"
"""On workloads and pods: the hash of the revision they serve, by which routes and dashboards tell versions apart."""

STEP_LABEL: Final = f"{GROUP}/step"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"

HOSTFILE_ANNOTATION: Final = f"{GROUP}/hostfile"
"""On pods of a DeepSpeed step: its hostfile, which the kubelet shows them as a file."""

PROGRESS_AUTHORITY_ANNOTATION: Final = f"{GROUP}/progress-authority"
"""On pods of distributed steps: who signs for the server that they tell their progress, as PEM."""

NODE_LABEL_PREFIX: Final = "node.modelfleet.dev/"
"""Prefix of the only labels the operator writes on nodes: ``node.modelfleet.dev/<owner>: <install>-<workload>``.

With ``-next`` after the owner: the workload that is made ready beside it; with ``-failed``: the one that did not come
up there, with attempt and reason.
"""

SCHEMA_HASH_ANNOTATION: Final = f"{GROUP}/schema-hash"
"""On our CustomResourceDefinitions: the hash of the schema they were generated from; readyz compares it."""

APPLIED_HASH_ANNOTATION: Final = f"{GROUP}/applied-hash"
"""On children that are applied: the hash of what was stated, so that a field no longer stated is noticed."""

VERIFY_ANNOTATION: Final = f"{GROUP}/verify"
"""On a ModelVersion, by its users: a value that was not acted on yet has the artifacts verified again."""
