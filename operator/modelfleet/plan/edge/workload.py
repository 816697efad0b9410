"""What a pool serves, as Kubernetes objects: the pod template, its DaemonSet or Deployment, and the Service.

A workload is named by the hash of *what* it serves (artifact, serving container, pool overrides; of replicas the
revision too), never of *where* (selectors, tolerations): a changed toleration restarts no gateway. The templates below
are a pure function of the hashed values, so two operators of different age must build the same one for a release of
format 1: golden tests pin both the hash and the template, and a change to either belongs into a new
``revision.FORMAT``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from modelfleet.api import names, wire
from modelfleet.plan import naming, pods
from modelfleet.plan.edge import provider
from modelfleet.plan.edge.provider import Platform
from modelfleet.plan.edge.revision import Release, ReleaseArtifact
from modelfleet.plan.outcome import RawObject

EVERY_NODE: Final = "EveryNode"
REPLICAS: Final = "Replicas"

FETCH: Final = "fetch"
SERVE: Final = "serve"
"""Names of the containers."""

EXTENSIONS: Final[Mapping[str, str]] = {
    "onnx": "onnx",
    "torchscript": "pt",
    "savedmodel": "zip",
    "tflite": "tflite",
    "safetensors": "safetensors",
    "other": "bin",
}
"""By artifact format: what the model's file in the container ends in."""

STARTUP_SECONDS: Final = 300
"""How long the default image may take until it answers at all, large models included."""


@dataclass(frozen=True)
class Workload:
    """One pool's share of a release with one artifact: what a gateway is moved to."""

    hash: str
    """Stands for all the rest: equal hashes are equal workloads."""
    release: Release = field(compare=False)
    pool: str = field(compare=False)
    artifact: ReleaseArtifact = field(compare=False)

    def name(self, deployment: str) -> str:
        """Name of its DaemonSet or Deployment."""
        return naming.joined(deployment, self.hash)


@lru_cache(maxsize=2_000)
def workload(release: Release, pool: str, artifact: ReleaseArtifact, placement: str = EVERY_NODE) -> Workload:
    """The workload of this artifact in this pool; asked for several times by each plan.

    Replicas are told apart by revision, so that requests can be routed to one revision and not the other. A gateway
    whose pool stays as it is goes on undisturbed under the next revision.
    """
    what: dict[str, Any] = {
        "format": release.format,
        "modelVersion": release.model_version,
        "model": release.model,
        "version": release.version,
        "artifact": artifact.model_dump(mode="json", by_alias=True, exclude_none=True),
        "serving": release.serving.model_dump(mode="json", by_alias=True, exclude_none=True),
        "pool": pool,
        "env": [variable.model_dump(mode="json") for variable in release.choice(pool).env],
    }
    if placement == REPLICAS:
        what["revision"] = release.revision
    return Workload(naming.content_hash(what, naming.WORKLOAD_LENGTH), release, pool, artifact)


def model_path(release: Release, artifact: ReleaseArtifact) -> str:
    """Where the serving container finds the model."""
    return f"{release.serving.model_mount_path}/model.{EXTENSIONS.get(artifact.format, 'bin')}"


def daemon_set(
    item: Workload,
    owner: Mapping[str, Any],
    installation: str,
    tolerations: Sequence[Mapping[str, Any]],
    revision: str = "",
    platform: Platform = provider.PLAIN,
) -> RawObject:
    """The DaemonSet of this workload: on every node whose labels name it, to serve or to come next.

    The pod stays the same when the node's label moves on from the one to the other. It never restarts a pod itself.
    ``revision`` is the one it was made for, where that is not the workload's own: its pods carry that label already.
    """
    metadata = owner["metadata"]
    labels = {**_labels(item, metadata["name"], EVERY_NODE), names.REVISION_LABEL: revision or item.release.revision}
    template = _template(item, {**labels, **platform.pod_labels}, tolerations)
    serves, following, _ = naming.node_label_keys(metadata["uid"])
    value = naming.node_label_value(installation, item.hash)
    template["spec"]["affinity"] = _node_affinity(
        [[{"key": key, "operator": "In", "values": [value]}] for key in (serves, following)]
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _metadata(item, owner, labels),
        "spec": {
            "selector": {"matchLabels": _selector(item, metadata["name"])},
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 1,
            "template": template,
        },
    }


def deployment(
    item: Workload,
    owner: Mapping[str, Any],
    replicas: int,
    node_selector: Mapping[str, str],
    tolerations: Sequence[Mapping[str, Any]],
    offline_after_seconds: int,
    platform: Platform = provider.PLAIN,
) -> RawObject:
    """The Deployment that serves this workload with some replicas on a pool's nodes.

    Its pods leave a plain node that has been unreachable for ``offline_after_seconds``: replicas move, gateways do not.
    """
    metadata = owner["metadata"]
    labels = {**_labels(item, metadata["name"], REPLICAS), names.REVISION_LABEL: item.release.revision}
    everywhere = [*tolerations, *platform.leaving(offline_after_seconds)]
    template = _template(item, {**labels, **platform.pod_labels}, everywhere, item.release.revision)
    template["spec"]["nodeSelector"] = dict(node_selector)
    affinity = _platform_affinity(item.artifact.platforms)
    if affinity:
        template["spec"]["affinity"] = affinity
    template["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": _selector(item, metadata["name"])},
        }
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(item, owner, labels),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": _selector(item, metadata["name"])},
            # Only a change of where the pods go makes a Deployment roll: it must not cost a replica.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "revisionHistoryLimit": 1,
            "template": template,
        },
    }


def service(owner: Mapping[str, Any], http_port: int, grpc_port: int | None) -> RawObject:
    """The Service of the Replicas pools: one factory's requests never go to another factory's gateway."""
    metadata = owner["metadata"]
    ports = [{"name": "http", "port": http_port, "targetPort": "http", "protocol": "TCP"}]
    if grpc_port is not None:
        ports.append({"name": "grpc", "port": grpc_port, "targetPort": "grpc", "protocol": "TCP"})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {
                names.MANAGED_BY_LABEL: names.MANAGED_BY,
                names.EDGE_DEPLOYMENT_LABEL: metadata["name"],
                names.PLACEMENT_LABEL: REPLICAS,
            },
            "ownerReferences": [naming.owner_reference(owner)],
        },
        "spec": {
            "selector": {names.EDGE_DEPLOYMENT_LABEL: metadata["name"], names.PLACEMENT_LABEL: REPLICAS},
            "ports": ports,
        },
    }


def _metadata(item: Workload, owner: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    metadata = owner["metadata"]
    return {
        "name": item.name(metadata["name"]),
        "namespace": metadata["namespace"],
        "labels": dict(labels),
        "ownerReferences": [naming.owner_reference(owner)],
    }


def _selector(item: Workload, deployment_name: str) -> dict[str, str]:
    return {names.EDGE_DEPLOYMENT_LABEL: deployment_name, names.WORKLOAD_LABEL: item.hash}


def _labels(item: Workload, deployment_name: str, placement: str) -> dict[str, str]:
    return {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        names.EDGE_DEPLOYMENT_LABEL: deployment_name,
        names.MODEL_VERSION_LABEL: item.release.model_version,
        names.POOL_LABEL: item.pool,
        names.ARTIFACT_LABEL: item.artifact.name,
        names.PLACEMENT_LABEL: placement,
        names.WORKLOAD_LABEL: item.hash,
    }


def _template(
    item: Workload, labels: Mapping[str, str], tolerations: Iterable[Mapping[str, Any]], revision: str = ""
) -> dict[str, Any]:
    """The pods' template; with the ``revision`` that they are to say they serve, where they live no longer than it."""
    release, artifact = item.release, item.artifact
    serving = release.serving
    secrets = [artifact.secret]
    path = model_path(release, artifact)
    order = wire.FetchOrder(
        files=[
            wire.FetchItem(
                name=artifact.name,
                uri=artifact.uri,
                sha256=artifact.sha256,
                size_bytes=artifact.size_bytes,
                credentials_path=pods.credentials_path(artifact.secret),
                path=path,
            )
        ]
    )
    model_mount = {"name": "model", "mountPath": serving.model_mount_path}
    # The fetch container has the serving container's limits: a namespace with a quota demands some.
    fetch_resources = {
        section: {name: amount for name, amount in amounts.items() if "/" not in name}
        for section, amounts in (("requests", serving.requests), ("limits", serving.limits))
    }
    spec = pods.pod_basics(serving.image_pull_secrets)
    spec |= {
        "initContainers": [
            pods.runtime_container(
                FETCH,
                "fetch",
                order,
                image=serving.runtime_image,
                pull_policy=serving.runtime_pull_policy,
                mounts=[model_mount, *pods.credentials_mounts(secrets)],
                resources={section: amounts for section, amounts in fetch_resources.items() if amounts},
            )
        ],
        "containers": [_serve_container(item, {**model_mount, "readOnly": True}, path, revision)],
        "volumes": [{"name": "model", "emptyDir": {}}, dict(pods.TMP_VOLUME), *pods.credentials_volumes(secrets)],
    }
    allowed = [dict(toleration) for toleration in tolerations]
    if allowed:
        spec["tolerations"] = allowed
    return {"metadata": {"labels": dict(labels)}, "spec": spec}


def _serve_container(item: Workload, model_mount: Mapping[str, Any], path: str, revision: str) -> dict[str, Any]:
    release, serving = item.release, item.release.serving
    variables = {variable.name: variable.value for variable in serving.env}
    variables |= {variable.name: variable.value for variable in release.choice(item.pool).env}
    variables |= {"MODEL_NAME": release.model, "MODEL_VERSION": release.version, "MODEL_PATH": path}
    # What we tell a pod is ours alone to tell, whatever the user calls theirs.
    variables.pop(wire.ORDER_ENV, None)
    variables.pop(wire.REVISION_ENV, None)
    if revision:
        variables[wire.REVISION_ENV] = revision
    env = [{"name": name, "value": value} for name, value in variables.items()]
    ports = [{"name": "http", "containerPort": serving.http_port, "protocol": "TCP"}]
    if serving.grpc_port is not None:
        ports.append({"name": "grpc", "containerPort": serving.grpc_port, "protocol": "TCP"})
    container: dict[str, Any] = {
        "name": SERVE,
        "image": serving.image or serving.runtime_image,
        "env": env,
        "ports": ports,
        "securityContext": pods.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [dict(model_mount), dict(pods.TMP_MOUNT)],
    }
    if serving.command:
        container["command"] = list(serving.command)
    if serving.args:
        container["args"] = list(serving.args)
    asked = resources(item)
    if asked:
        container["resources"] = asked
    if serving.image is None:
        order = wire.ServeOrder(
            model=release.model,
            version=release.version,
            path=path,
            sha256=item.artifact.sha256,
            http_port=serving.http_port,
        )
        env.append(pods.order_env(order))
        container["imagePullPolicy"] = serving.runtime_pull_policy
        if not serving.command and not serving.args:
            container["args"] = ["serve"]
        container |= _default_image_probes()
    else:
        # Of a foreign image only the port is known: that it listens is what can be asked.
        container["readinessProbe"] = {"tcpSocket": {"port": "http"}, "periodSeconds": 5}
    return container


def _default_image_probes() -> dict[str, Any]:
    live = {"httpGet": {"path": "/v2/health/live", "port": "http"}}
    return {
        "startupProbe": {**live, "periodSeconds": 2, "failureThreshold": STARTUP_SECONDS // 2},
        "livenessProbe": {**live, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 3},
        # Patient: taken out of service, a pod that is slow for load leaves the others more of it.
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": "http"},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        },
    }


def resources(item: Workload) -> dict[str, Any]:
    """What the user asked for, and one of each accelerator that the build needs where they did not say how many."""
    limits = dict(item.release.serving.limits)
    for name in item.artifact.accelerators:
        limits.setdefault(name, "1")
    requests = dict(item.release.serving.requests)
    return {section: amounts for section, amounts in (("requests", requests), ("limits", limits)) if amounts}


def _platform_affinity(platforms: Iterable[str]) -> dict[str, Any] | None:
    """Keeps replicas off nodes that join the pool later with an architecture the artifact is not for."""
    terms = [
        [
            {"key": "kubernetes.io/os", "operator": "In", "values": [system]},
            {"key": "kubernetes.io/arch", "operator": "In", "values": [architecture]},
        ]
        for system, architecture in sorted({tuple(platform.split("/")[:2]) for platform in platforms})
    ]
    if not terms:
        return None
    return _node_affinity(terms)


def _node_affinity(alternatives: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Nodes on which all expressions of one of the alternatives hold."""
    terms = [{"matchExpressions": [dict(each) for each in expressions]} for expressions in alternatives]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
