"""A volume on the real node that outlives every pod, and what tests do to trainings that keep checkpoints on it.

The volume is a folder of the node, so that a test sees it while no kubelet answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cluster import RealNode
from e2e.cluster.commands import wait_until
from e2e.kubectl import Kubectl
from tests import onnx
from tests.objects import RawObject

CLAIM = "checkpoints"
MOUNT = "/checkpoints"
PROGRAM = Path(__file__).with_name("seeded_training.py").read_text()
EPOCHS = 16
"""As in the program."""
INTERVAL_SECONDS = 1
AT_MOST_REPEATED = 4
"""Epochs between two checkpoints: of 0.3 s at least each, and the one in which the second is over."""


@dataclass(frozen=True)
class Volume:
    """The volume behind the claim."""

    node: RealNode
    folder: str
    """On the node."""

    def epochs(self, job: str) -> list[tuple[int, int]]:
        """Attempt and number of each epoch that a job's training has run, in the order in which they ended."""
        lines = self.node.run("sh", "-c", 'cat "$1" 2>/dev/null || true', "sh", f"{self.folder}/{job}").splitlines()
        return [(int(attempt), int(epoch)) for attempt, epoch in map(str.split, lines)]

    def await_epoch(self, job: str, attempt: int, epoch: int) -> None:
        """Wait until a job's training has come so far."""
        wait_until(lambda: (attempt, epoch) in self.epochs(job), f"epoch {epoch} of {job} in attempt {attempt}", 600)

    def release(self, job: str, attempt: int) -> None:
        """Let a training go on that was told to wait."""
        self.node.run("touch", f"{self.folder}/{job}.go-{attempt}")

    def saved(self, job: str) -> dict[int, list[int]]:
        """By attempt, the epochs of which a checkpoint lies there."""
        words = ("find", self.folder, "-path", f"*/{job}-*/train/*/manifest.json", "-not", "-path", "*/.*")
        found: dict[int, list[int]] = {}
        for line in sorted(self.node.run(*words).splitlines()):
            attempt, epoch = line.split("/")[-3:-1]
            found.setdefault(int(attempt), []).append(int(epoch))
        return found


@contextmanager
def claimed(kubectl: Kubectl, node: RealNode) -> Iterator[Volume]:
    """The claim in kubectl's namespace, bound to a folder of the node that every pod may write to."""
    folder = f"/var/lib/modelfleet-tests/{kubectl.namespace}"
    node.run("mkdir", "-p", folder)
    node.run("chmod", "0777", folder)
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": kubectl.namespace},
            "spec": {
                **common,
                "capacity": size,
                "hostPath": {"path": folder, "type": "Directory"},
                "claimRef": {"namespace": kubectl.namespace, "name": CLAIM},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM},
            "spec": {**common, "volumeName": kubectl.namespace, "resources": {"requests": size}},
        },
    )
    try:
        yield Volume(node, folder)
    finally:
        kubectl("delete", "persistentvolume", kubectl.namespace, "--wait=false", "--ignore-not-found")


def checkpoint(interval_seconds: int = INTERVAL_SECONDS) -> RawObject:
    """What goes into the spec of a TrainingJob."""
    return {"volumeClaimName": CLAIM, "path": MOUNT, "intervalSeconds": interval_seconds, "keep": 20}


LAUNCHERS = {
    "plain": [],
    "torch": ["torchrun", "--no-python"],
    "mpi": ["python", "-P", "-m", "modelfleet.runtime", "mpi", "--"],
}
"""What starts a program, by framework."""


def step(
    name: str, record: str, image: str, *after: str, nodes: int = 1, framework: str = "", **variables: str
) -> RawObject:
    """The seeded training as a step, alone or as a gang; ``record`` and the other variables as the program says."""
    framework = framework or ("torch" if nodes > 1 else "plain")
    environment = {"MODEL": onnx.identity().hex(), "RECORD": f"{MOUNT}/{record}", **variables}
    return {
        "name": name,
        "trainer": {
            "image": image,
            "framework": framework,
            "command": [*LAUNCHERS[framework], "python", "-c", PROGRAM],
            "numNodes": nodes,
            "env": [{"name": name, "value": value} for name, value in environment.items()],
        },
        "dependsOn": [{"name": each, "status": "Complete"} for each in after],
        "retry": {"limit": 2, "backoffSeconds": 1},
    }


def kill_container(node: RealNode, pod: RawObject) -> None:
    """SIGKILL to the first program of a pod's container, on the node."""
    (status,) = pod["status"]["containerStatuses"]
    container = status["containerID"].removeprefix("containerd://")
    node.run("ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)
