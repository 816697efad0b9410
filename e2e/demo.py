"""``make demo``: the main job on a real cluster, told step by step; every claim it prints was checked a line before.

The cluster, the images and the chart come from ``e2e.cluster`` and ``e2e.install``; the project is
``examples/defect-inspection``. Run again, it starts over in a fresh namespace and reuses all the rest.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from e2e import install, oip, project
from e2e.cluster import choice as clusters
from e2e.cluster.cluster import Cluster
from e2e.cluster.folders import DEFAULT_NAME
from e2e.kubectl import Kubectl, condition, is_true
from e2e.progress import Progress

NAMESPACE = "vision"


class Broken(AssertionError):
    """The product did not do what the demo is about to claim."""


def check(claim: bool, otherwise: str) -> None:
    """Stop the demo where something is not as it says."""
    if not claim:
        raise Broken(otherwise)


@dataclass
class Demo:
    """What the steps hand on to each other."""

    namespace: str
    progress: Progress
    kubectl: Kubectl
    files: project.Files
    dataset: project.Dataset
    source: project.Source
    model_version: str = ""
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    request: dict[str, np.ndarray] = field(default_factory=dict)

    def train(self) -> None:
        """Apply the TrainingJob and watch it: three steps, the gate, the registered ModelVersion."""
        job = project.training_job(self.namespace, self.files, self.dataset, self.source)
        name = job["metadata"]["name"]
        self.kubectl.apply(job)
        self.progress.keep("kubectl apply -f examples/defect-inspection/trainingjob.yaml")
        self.progress.keep("  (with this cluster's store and Git server, and the dataset's digest)")

        def seen(observed: dict[str, Any]) -> None:
            status = observed.get("status", {})
            steps = ", ".join(f"{step['name']} {step['phase']}" for step in status.get("steps", []))
            told = status.get("trainerStatus", {}).get("progressPercentage")
            self.progress.say(f"{status.get('phase', 'Pending')}: {steps}{'' if told is None else f', {told} %'}")
            check(status.get("phase") != "Failed", f"the training failed: {condition(observed, 'Failed')}")

        done = self.kubectl.wait_for(
            "trainingjob", name, lambda observed: is_true(observed, "Ready"), timeout=900, seen=seen
        )
        told = done["status"].get("trainerStatus", {})
        names = [metric["name"] for metric in told.get("metrics", [])]
        check(told.get("progressPercentage") == 100, f"the training's pods told their progress as {told}")
        check("validation_accuracy" in names, f"the training's pods told the metrics {names}")
        self.progress.keep(f"its pods told how far they were, and {', '.join(names)}")
        metrics: dict[str, str] = {}
        for step in done["status"]["steps"]:
            metrics |= step.get("results", {}).get("metrics", {})
        source = done["status"]["source"]
        check(source["revision"] == self.source.commit, f"branch main is taken for {source['revision']}")
        self.progress.keep(f"source: branch {self.source.revision} is commit {source['revision'][:12]}")
        accuracy, baseline = float(metrics["accuracy"]), float(metrics["baseline_accuracy"])
        check(accuracy >= baseline, f"accuracy {accuracy} does not reach the baseline's {baseline}")
        self.progress.keep(f"accuracy {accuracy:.4f}; scikit-learn on the same split {baseline:.4f}")
        for gate in done["status"]["gate"]:
            self.progress.keep(f"gate: {gate['metric']} {gate['value']} {gate['required']}: passed")
        self.model_version = done["status"]["modelVersion"]

    def verify(self) -> None:
        """The ModelVersion with its artifacts, hashed in the cluster by a Job."""
        observed = self.kubectl.wait_for(
            "modelversion", self.model_version, lambda version: is_true(version, "Verified"), timeout=180
        )
        lineage = observed["spec"]["lineage"]
        check(lineage["git"]["revision"] == self.source.commit, "the lineage names another commit")
        check(observed["spec"]["channel"] == "production", "what is trained from main is of channel production")
        check(lineage["dataset"]["sha256"] == self.dataset.sha256, "the lineage names another dataset")
        self.artifacts = {artifact["name"]: artifact for artifact in observed["spec"]["artifacts"]}
        check({"fp32", "int8"} <= set(self.artifacts), f"artifacts are {sorted(self.artifacts)}")
        for artifact in self.artifacts.values():
            digest = hashlib.sha256(self.files.read(artifact["uri"])).hexdigest()
            check(digest == artifact["sha256"], f"{artifact['uri']} has sha256 {digest}")
            self.progress.keep(f"{artifact['name']:5} {artifact['sizeBytes']:>8} bytes  sha256:{digest[:16]}…")
        self.progress.keep(
            f"git {lineage['git']['revision'][:12]}, dataset sha256:{self.dataset.sha256[:12]}…, channel"
            f" {observed['spec']['channel']}"
        )

    def roll_out(self) -> None:
        """The EdgeDeployment over all pools, wave by wave."""
        self.kubectl.apply(project.edge_deployment(self.namespace, self.model_version))
        self.progress.keep("kubectl apply -f examples/defect-inspection/edgedeployment.yaml")

        def seen(observed: dict[str, Any]) -> None:
            self.progress.say(observed.get("status", {}).get("message", "waiting"))

        done = self.kubectl.wait_for(
            "edgedeployment", "line-a", lambda observed: is_true(observed, "Ready"), timeout=600, seen=seen
        )
        for pool in done["status"]["pools"]:
            served = ", ".join(f"{count} × {artifact}" for artifact, count in sorted(pool["artifacts"].items()))
            self.progress.keep(f"{pool['name']:14} {pool['healthy']}/{pool['desired']} healthy: {served}")
            check(pool["healthy"] == pool["desired"], f"pool {pool['name']} is not whole")

    def ask(self, version: str) -> None:
        """A request through the Service, its answer equal to the one computed here from the artifact's bytes."""
        service = self.kubectl.get("service", "line-a")
        check(service is not None, "there is no Service line-a")
        assert service is not None
        base = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
        sample = np.random.default_rng(7).random((4, 1, 32, 32), dtype=np.float32)
        artifact = self.serving_artifact()
        expected = oip.offline(self.files.read(self.artifacts[artifact]["uri"]), {"image": sample})
        answer = oip.infer(base, "defect-detector", {"image": sample})
        check(answer.version == version, f"version {answer.version} answered, not {version}")
        for name, tensor in expected.items():
            check(np.array_equal(answer.outputs[name], tensor), f"output {name} differs from the offline one")
        self.progress.keep(f"POST {base}/v2/models/defect-detector/infer")
        self.progress.keep(f"version {answer.version} answered, equal to what {artifact} answers offline")

    def serving_artifact(self) -> str:
        """The artifact of the routed pods."""
        (pod, *_) = self.kubectl.list("pods", "modelfleet.dev/placement=Replicas")
        name: str = pod["metadata"]["labels"]["modelfleet.dev/artifact"]
        return name

    def tampered_in_store(self, serving: str) -> None:
        """Bytes changed after registration, before the cluster's check: refused in the cluster."""
        name = self.register_copy("1.0.1")
        self.tamper("1.0.1")
        refused = self.kubectl.wait_for(
            "modelversion",
            name,
            lambda version: condition(version, "Verified").get("reason") == "HashMismatch",
            timeout=180,
        )
        self.progress.keep(f"{name}: Verified=False, HashMismatch: {condition(refused, 'Verified')['message']}")
        self.deploy(name)
        held = self.kubectl.wait_for(
            "edgedeployment", "line-a", lambda deployment: condition(deployment, "Stalled").get("status") == "True"
        )
        self.progress.keep(f"line-a: {condition(held, 'Stalled')['reason']}: {condition(held, 'Stalled')['message']}")
        self.ask(serving)
        self.roll_back(serving)

    def tampered_on_the_way(self, serving: str) -> None:
        """Bytes changed after the cluster's check: refused on the device, in the first wave."""
        name = self.register_copy("1.0.2")
        self.kubectl.wait_for("modelversion", name, lambda version: is_true(version, "Verified"))
        self.progress.keep(f"{name}: Verified=True")
        self.tamper("1.0.2")
        self.deploy(name)
        back = self.kubectl.wait_for(
            "edgedeployment",
            "line-a",
            lambda deployment: condition(deployment, "Stalled").get("reason") == "HashMismatch",
        )
        self.progress.keep(f"line-a: {back['status']['phase']}: {condition(back, 'Stalled')['message']}")
        self.ask(serving)
        self.roll_back(serving)

    def register_copy(self, version: str) -> str:
        """A further version with the same bytes under another path, as a pipeline of one's own would apply it."""
        source = self.kubectl.get("modelversion", self.model_version)
        assert source is not None
        name = f"defect-detector-{version.replace('.', '-')}"
        artifacts = []
        for artifact in source["spec"]["artifacts"]:
            uri = self.files.uri(f"copies/{version}/{artifact['name']}.onnx")
            self.files.write(uri, self.files.read(artifact["uri"]))
            artifacts.append(artifact | {"uri": uri})
        self.kubectl.apply(
            {
                "apiVersion": "modelfleet.dev/v1alpha1",
                "kind": "ModelVersion",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"model": "defect-detector", "version": version, "artifacts": artifacts},
            }
        )
        return name

    def tamper(self, version: str) -> None:
        """Flip one bit of each artifact of that version in the store; length and name stay."""
        for name in self.artifacts:
            uri = self.files.uri(f"copies/{version}/{name}.onnx")
            data = bytearray(self.files.read(uri))
            data[len(data) // 2] ^= 1
            self.files.write(uri, bytes(data))
        self.progress.keep(f"one bit flipped in each artifact of {version}")

    def deploy(self, name: str) -> None:
        """Roll out another version, as a user would."""
        patch = f'{{"spec": {{"modelVersion": "{name}"}}}}'
        self.kubectl("patch", "edgedeployment", "line-a", "--type=merge", f"--patch={patch}")
        self.progress.keep(f"spec.modelVersion: {name}")

    def roll_back(self, serving: str) -> None:
        """Change modelVersion back, and be whole again."""
        self.deploy(self.model_version)
        self.kubectl.wait_for("edgedeployment", "line-a", lambda deployment: is_true(deployment, "Ready"))
        self.ask(serving)


def tell(cluster: Cluster, progress: Progress, namespace: str = NAMESPACE) -> Demo:
    """The flow, on a cluster where modelfleet is installed; starts over in a fresh namespace.

    Raises :class:`Broken` or ``NotReached`` where the product falls short.
    """
    with project.served_source(cluster.store) as source:
        return _tell(cluster, progress, namespace, source)


def _tell(cluster: Cluster, progress: Progress, namespace: str, source: project.Source) -> Demo:
    kubectl = cluster.kubectl
    kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=true")
    kubectl("create", "namespace", namespace)
    files = project.Files(cluster.store)
    with progress.phase("A dataset: surface images, drawn by a seeded script"):
        with tempfile.TemporaryDirectory() as scratch:
            dataset = project.draw_dataset(files, Path(scratch))
        kubectl.apply(files.secret(namespace))
        progress.keep(f"{dataset.uri}  sha256:{dataset.sha256[:16]}…")
    demo = Demo(namespace, progress, kubectl.within(namespace), files, dataset, source)
    version = project.training_job(namespace, files, dataset, source)["spec"]["version"]
    with progress.phase("A TrainingJob: preprocess → train (two pods, torchrun, gloo) → evaluate → gate"):
        demo.train()
    with progress.phase("The ModelVersion, hashed in the cluster"):
        demo.verify()
    with progress.phase("An EdgeDeployment: three pools of gateways and a lab, wave by wave"):
        demo.roll_out()
    with progress.phase("A request (Open Inference Protocol v2), answered in a real pod"):
        demo.ask(version)
    with progress.phase("Tampered in the store before the cluster's check: refused in the cluster"):
        demo.tampered_in_store(version)
    with progress.phase("Tampered after the cluster's check: refused on the device"):
        demo.tampered_on_the_way(version)
    progress.show(f"kubectl get mv,tj,ed -n {namespace}", demo.kubectl("get", "mv,tj,ed"))
    return demo


def run(name: str, gateways: int, progress: Progress) -> None:
    """The whole demo: the cluster, modelfleet, the flow, and where to look further."""
    began = time.monotonic()
    with progress.phase(f"A cluster with {gateways} gateways"):
        cluster = clusters.up(name, gateways, "own", progress.say)
        progress.keep(f"export KUBECONFIG={cluster.kubeconfig}")
    with progress.phase("modelfleet, installed by Helm from charts/modelfleet"):
        install.install(cluster, (*install.TARGETS, "train"), progress)
    tell(cluster, progress)
    clean = "make clean" if name == DEFAULT_NAME else f"make clean NAME={name}"
    progress.console.print(
        f"\n[bold green]Done[/] in {time.monotonic() - began:.0f} s. All of it is still there to look at:\n"
        f"  export KUBECONFIG={cluster.kubeconfig}\n"
        f"  kubectl get mv,tj,ed -n {NAMESPACE}\n"
        f"  kubectl describe ed line-a -n {NAMESPACE}\n"
        "  kubectl explain edgedeployment.spec.strategy\n"
        f"and [bold]{clean}[/] removes it.",
        soft_wrap=True,
    )


def main() -> int:
    """Entry point of ``python -m e2e.demo``."""
    parser = argparse.ArgumentParser(prog="e2e.demo", description=__doc__)
    parser.add_argument("--name", default=DEFAULT_NAME, help="cluster to run in")
    parser.add_argument("--gateways", type=int, default=200, help="simulated gateways")
    options = parser.parse_args()
    progress = Progress()
    try:
        run(options.name, options.gateways, progress)
    except (AssertionError, OSError, RuntimeError, ValueError) as error:
        return progress.fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
