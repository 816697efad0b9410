"""A small world for the EdgeDeployment's plan: what Kubernetes makes of an Outcome, without an API server.

It carries outcomes out, whole or only their first writes, and plays the DaemonSet and Deployment controllers and the
kubelets. What a pod of some model version becomes on some node is the test's to say.
"""

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelfleet.api import names
from modelfleet.cluster.view import trim
from modelfleet.plan import conditions, naming
from modelfleet.plan.edge import edge_deployment, edge_status
from modelfleet.plan.edge.edge_deployment import Observed
from modelfleet.plan.installation import Installation
from modelfleet.plan.outcome import NodeLabels, Note, ObjectRef, Outcome, Waiting
from modelfleet.reconcile.refused_labels import RefusedLabels

Object = dict[str, Any]
START = datetime(2026, 11, 21, tzinfo=UTC)
GPU = "nvidia.com/gpu"


def artifact(name: str = "int8", **fields: Any) -> Object:
    precision = name if name in ("int8", "fp16", "bf16", "fp32") else "fp32"
    return {
        "name": name,
        "uri": f"https://models.example/{name}.onnx",
        "sha256": naming.content_hash(name),
        "sizeBytes": 1000,
        "format": "onnx",
        "precision": precision,
        **fields,
    }


def model_version(version: str = "1.0.0", artifacts: Iterable[Object] = (), verified: bool = True) -> Object:
    items = list(artifacts) or [artifact()]
    spec = {"model": "defect", "version": version, "artifacts": items}
    status: Object = {"snapshotHash": f"sha256:{naming.content_hash(spec)}"}
    status["conditions"] = [{"type": "Verified", "status": "True", "reason": "Verified"}] if verified else []
    return {"metadata": {"name": f"defect-{version.replace('.', '-')}", "uid": version}, "spec": spec, "status": status}


def node(name: str, pool: str = "gw", memory: str = "8Gi", arch: str = "arm64", **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": name, "labels": {"pool": pool, "kubernetes.io/arch": arch, **labels}},
        "spec": {},
        "status": {
            "conditions": [ready_condition(True, START - timedelta(days=1))],
            "allocatable": {"cpu": "4", "memory": memory},
            "nodeInfo": {"operatingSystem": "linux", "architecture": arch},
        },
    }


def ready_condition(ready: bool, since: datetime) -> Object:
    moment = conditions.timestamp(since)
    return {"type": "Ready", "status": "True" if ready else "Unknown", "lastTransitionTime": moment}


def pool(name: str = "gw", **fields: Any) -> Object:
    return {"name": name, "nodeSelector": {"pool": name}, **fields}


Behaviour = Callable[[Object, str], Object]
"""From a pod and its node's name to the pod's status."""


def healthy(pod: Object, _node: str) -> Object:
    """Everything comes up."""
    return pod_status("True")


def pod_status(ready: str, **fields: Any) -> Object:
    since = conditions.timestamp(START)
    serve = {"name": "serve", "ready": ready == "True", "state": {"running": {}} if ready == "True" else {}}
    return {
        "phase": "Running" if ready == "True" else "Pending",
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
        "containerStatuses": [serve],
        **fields,
    }


def refusing(report: str, exit_code: int = 1) -> Object:
    """The status of a pod whose fetch container ended with this termination message."""
    ended = {"terminated": {"exitCode": exit_code, "message": report, "reason": "Error"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    return pod_status("False", initContainerStatuses=[{"name": "fetch", "state": waiting, "lastState": ended}])


def said(observed: Observed) -> str:
    """All that is observed, as text."""
    return json.dumps(vars(observed), default=str)


def _matches(labels: Object, expressions: list[Object]) -> bool:
    return all(labels.get(each["key"]) in each["values"] for each in expressions)


def _deeds(outcome: Outcome) -> Outcome:
    """What an outcome does, without what it tells."""
    return replace(outcome, notes=[], status=edge_status.decided(outcome.status or {}))


class World:
    """A cluster with one EdgeDeployment in it."""

    def __init__(self, nodes: Iterable[Object], pools: list[Object] | None = None, **spec: Any) -> None:
        self.installation = Installation("modelfleet/fleet", "fleet", "modelfleet/runtime:1")
        self.now = START
        self.nodes = {each["metadata"]["name"]: each for each in nodes}
        self.children: dict[tuple[str, str], Object] = {}
        self.models: dict[str, Object] = {}
        self.behaviour: Behaviour = healthy
        self.notes: list[Note] = []
        self.label_writes = 0
        self.refusing: dict[str, str] = {}
        """Nodes that the API server lets take no label, with its words."""
        self.refusals = 0
        self._refused = RefusedLabels(lambda: self.now)
        self.served: set[str] = set()
        """Kinds that route requests and are installed."""
        self.foreign: list[Object] = []
        """Other people's routes."""
        self.taken: set[str] = set()
        """Names of Services that are somebody else's."""
        self.barren: dict[str, str] = {}
        """Nodes (or ``lab-0`` for replicas) on which no further pod is made, with the API server's words, if any."""
        self.waiting: Mapping[str, Waiting] = {}
        self._numbers = itertools.count()
        self.add_model(model_version())
        self.deployment: Object = {
            "apiVersion": names.API_VERSION,
            "kind": "EdgeDeployment",
            "metadata": {"name": "line", "namespace": "vision", "uid": "uid-of-line", "generation": 1},
            "spec": {"modelVersion": "defect-1-0-0", "pools": pools or [pool()], **spec},
        }

    def add_model(self, model: Object) -> None:
        self.models[model["metadata"]["name"]] = model

    def edit(self, **spec: Any) -> None:
        self.deployment["spec"].update(spec)
        self.deployment["metadata"]["generation"] += 1

    def command(self, **said: str | None) -> None:
        """Set annotations that are commands, or take them away."""
        annotations = self.deployment["metadata"].setdefault("annotations", {})
        for verb, value in said.items():
            annotations.pop(f"{names.GROUP}/{verb}", None)
            if value is not None:
                annotations[f"{names.GROUP}/{verb}"] = value

    @property
    def status(self) -> Object:
        status: Object = self.deployment["status"]
        return status

    def condition(self, type_: str) -> Object:
        return dict(conditions.find(self.status["conditions"], type_) or {})

    def kind(self, kind: str) -> list[Object]:
        return [each for (held, _), each in self.children.items() if held == kind]

    def observed(self) -> Observed:
        return Observed(
            deployment=self.deployment,
            model_version=self.models.get(self.deployment["spec"]["modelVersion"]),
            revisions=self.kind("ControllerRevision"),
            daemon_sets=self.kind("DaemonSet"),
            deployments=self.kind("Deployment"),
            services=self.kind("Service"),
            routes={
                kind: [*self.kind(kind), *(each for each in self.foreign if each["kind"] == kind)]
                for kind in self.served
            },
            pods=[trim({"kind": "Pod", **pod}) for pod in self.kind("Pod")],
            nodes=list(self.nodes.values()),
            taken=self.taken,
            refusals={each["metadata"]["name"]: why for each in self._lacking() for why in self.barren.values() if why},
            waiting=self.waiting,
            refused_labels=self._refused.standing(self.deployment["metadata"]["uid"]),
        )

    def _lacking(self) -> list[Object]:
        """Workloads that have fewer pods than they should."""
        found = []
        for each in [*self.kind("DaemonSet"), *self.kind("Deployment")]:
            own = [pod for pod in self.kind("Pod") if pod["metadata"]["owner"] == each["metadata"]["name"]]
            if any(
                f"{each['metadata']['name']}-{name}" not in [pod["metadata"]["name"] for pod in own]
                for name in self.barren
            ):
                found.append(each)
        return found

    def plan(self) -> Outcome:
        """The next step; the same whatever the status tells to people."""
        observed = self.observed()
        before = said(observed)
        outcome = edge_deployment.plan(observed, self.installation, self.now)
        assert said(observed) == before, "objects that say something alike share it"
        silent = {**self.deployment, "status": edge_status.decided(self.deployment.get("status") or {})}
        untold = edge_deployment.plan(replace(observed, deployment=silent), self.installation, self.now)
        assert _deeds(untold) == _deeds(outcome)
        return outcome

    def step(self, writes: int | None = None) -> Outcome:
        """Plan once and carry out the outcome, or only so many of its writes."""
        outcome = self.plan()
        self.waiting = outcome.waiting
        acts: list[Callable[[], None]] = []
        acts += [lambda obj=obj: self._create(obj) for obj in outcome.create]  # type: ignore[misc]
        acts += [lambda obj=obj: self._apply(obj) for obj in outcome.apply]  # type: ignore[misc]
        acts += [lambda label=label: self._label(label) for label in outcome.label_nodes]  # type: ignore[misc]
        labelled = len(acts)
        acts += [lambda ref=ref: self._delete(ref) for ref in outcome.delete]  # type: ignore[misc]
        acts.append(lambda: self._status(outcome))
        before = self.refusals
        for done, act in enumerate(acts[:writes]):
            if self.refusals > before and done >= labelled:
                # As the controller does it: another plan leaves out what takes no label.
                return self.step()
            act()
        return outcome

    def play(self, seconds: float = 1) -> None:
        """Let the controllers and kubelets of the world do their part."""
        self.now += timedelta(seconds=seconds)
        for each in self.kind("DaemonSet"):
            affinity = each["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
            terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            for name, item in self.nodes.items():
                matches = any(_matches(item["metadata"]["labels"], term["matchExpressions"]) for term in terms)
                pod = f"{each['metadata']['name']}-{name}"
                if matches and ("Pod", pod) not in self.children and name not in self.barren:
                    self._pod(pod, each, name)
                elif not matches:
                    self.children.pop(("Pod", pod), None)
        for each in self.kind("Deployment"):
            own = [p for p in self.kind("Pod") if p["metadata"]["owner"] == each["metadata"]["name"]]
            own.sort(key=lambda p: p["status"]["phase"] != "Running")
            for surplus in own[each["spec"]["replicas"] :]:
                del self.children["Pod", surplus["metadata"]["name"]]
            for _ in range(each["spec"]["replicas"] - len(own) if "lab-0" not in self.barren else 0):
                self._pod(f"{each['metadata']['name']}-{next(self._numbers)}", each, "lab-0")
        for pod in self.kind("Pod"):
            node_ready = self.nodes[pod["spec"]["nodeName"]]["status"]["conditions"][0]["status"] == "True"
            if node_ready:
                pod["status"] = self.behaviour(pod, pod["spec"]["nodeName"])
            else:
                pod["status"]["conditions"][0] |= {"status": "False"}
        for each in self.kind("Deployment"):
            own = [p for p in self.kind("Pod") if p["metadata"]["owner"] == each["metadata"]["name"]]
            ready = sum(p["status"]["conditions"][0]["status"] == "True" for p in own)
            each["status"] = {"availableReplicas": ready}
        owners = {name for kind, name in self.children if kind in ("DaemonSet", "Deployment")}
        for pod in self.kind("Pod"):
            if pod["metadata"]["owner"] not in owners:
                del self.children["Pod", pod["metadata"]["name"]]

    def run(self, rounds: int = 60, watch: Callable[[], None] | None = None) -> None:
        """Plan and play until nothing changes any more (or so many rounds are over)."""
        for _ in range(rounds):
            before = self.picture()
            self.step()
            if watch:
                watch()
            self.play()
            if watch:
                watch()
            if self.picture() == before:
                return

    def picture(self) -> Object:
        return copy.deepcopy({"nodes": self.nodes, "children": self.children, "ed": self.deployment})

    def offline(self, *names_: str, ago: float = 0) -> None:
        for name in names_:
            since = self.now - timedelta(seconds=ago)
            self.nodes[name]["status"]["conditions"] = [ready_condition(False, since)]

    def online(self, *names_: str) -> None:
        for name in names_:
            self.nodes[name]["status"]["conditions"] = [ready_condition(True, self.now)]

    def serving(self) -> dict[str, str]:
        """What each node serves right now: the model version's name of its ready pod."""
        return {
            each["spec"]["nodeName"]: each["metadata"]["labels"][names.MODEL_VERSION_LABEL]
            for each in self.kind("Pod")
            if each["status"]["conditions"][0]["status"] == "True"
        }

    def replicas(self) -> dict[str, int]:
        """Wanted replicas by model version."""
        return {
            each["metadata"]["labels"][names.MODEL_VERSION_LABEL]: each["spec"]["replicas"]
            for each in self.kind("Deployment")
        }

    def _pod(self, name: str, owner: Object, node_name: str) -> None:
        created = conditions.timestamp(self.now)
        self.children["Pod", name] = {
            "metadata": {
                "name": name,
                "owner": owner["metadata"]["name"],
                "creationTimestamp": created,
                "labels": owner["spec"]["template"]["metadata"]["labels"],
            },
            "spec": {"nodeName": node_name},
            "status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]},
        }

    def _create(self, obj: Object) -> None:
        self.children.setdefault((obj["kind"], obj["metadata"]["name"]), copy.deepcopy(obj))

    def _apply(self, obj: Object) -> None:
        held = self.children.get((obj["kind"], obj["metadata"]["name"]), {})
        status = {"status": held["status"]} if "status" in held else {}
        self.children[obj["kind"], obj["metadata"]["name"]] = copy.deepcopy(obj) | status

    def _label(self, wanted: NodeLabels) -> None:
        labels = self.nodes[wanted.node]["metadata"]["labels"]
        if all(labels.get(key) == value for key, value in wanted.values.items()):
            return
        owner = self.deployment["metadata"]["uid"]
        if wanted.node in self.refusing:
            self.refusals += 1
            self._refused.refused(owner, wanted.node, self.refusing[wanted.node])
            return
        self._refused.written(owner, wanted.node)
        self.label_writes += 1
        for key, value in wanted.values.items():
            if value is None:
                labels.pop(key, None)
            else:
                labels[key] = value

    def _delete(self, ref: ObjectRef) -> None:
        self.children.pop((ref.kind, ref.name), None)

    def _status(self, outcome: Outcome) -> None:
        self.notes += outcome.notes
        self.deployment["status"] = copy.deepcopy(outcome.status)
