"""What TrainingJobs cost the operator: each trains once on four pods, passes its gate and registers a ModelVersion.

The version is verified, too, by a Job of one pod, which no peer does: that part is measured once more alone, with
versions that were registered by hand.
"""

import time
from typing import Any

from e2e.bench import workshop
from e2e.bench.controller import Controller
from e2e.bench.fleet import PATIENCE_SECONDS, QUIET_SECONDS
from e2e.bench.meter import Meter, Spent
from e2e.cluster.cluster import Cluster
from e2e.kubectl import is_true
from e2e.progress import Progress

NAMESPACE = "trainings"
_VERSION = "1.0.0"
_VERSION_IN_NAMES = _VERSION.replace(".", "-")

RawObject = dict[str, Any]


def training_job(number: int) -> RawObject:
    """A training of a model of its own: one distributed step, and a gate that its report passes."""
    model = f"trained-{number:05d}"
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": model},
        "spec": {
            "model": model,
            "version": _VERSION,
            "steps": [
                {
                    "name": "train",
                    "trainer": {
                        "image": "registry.example/train:1",
                        "command": ["torchrun", "train.py"],
                        "numNodes": workshop.PODS,
                    },
                }
            ],
            "gate": [{"metric": "accuracy", "comparison": ">=", "value": "0.9"}],
            "output": {"storageUri": "s3://models/bench", "modelVersionName": f"{model}-{_VERSION_IN_NAMES}"},
            "nodeSelector": workshop.NODE_SELECTOR,
        },
    }


def model_version(number: int) -> RawObject:
    """A version registered by hand, with the artifact that a training would have reported."""
    model = f"given-{number:05d}"
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"{model}-{_VERSION_IN_NAMES}"},
        "spec": {
            "model": model,
            "version": _VERSION,
            "artifacts": [
                {
                    "name": "fp32",
                    "uri": "s3://models/bench/fp32.onnx",
                    "sha256": "1" * 64,
                    "sizeBytes": 1_000_000,
                    "format": "onnx",
                    "precision": "fp32",
                }
            ],
        },
    }


class Trainings:
    """The operator on a workshop's cluster."""

    def __init__(self, cluster: Cluster, operator: Controller, progress: Progress) -> None:
        cluster.kubectl("create", "namespace", NAMESPACE)
        self.kubectl = cluster.kubectl.within(NAMESPACE)
        self.operator = operator
        self.progress = progress
        self.meter = Meter(operator, workshop.largest_status(self.kubectl, "trainingjobs"), progress)

    def train(self, count: int) -> Spent:
        """``count`` TrainingJobs at once, until each has registered its version and that is verified."""

        def act() -> None:
            workshop.apply(self.kubectl, [training_job(number) for number in range(count)])
            self._until("trainingjobs", count)
            self._until("modelversions", count)

        return self.meter.measure("trained, registered, verified", count, act)

    def verify(self, count: int) -> Spent:
        """``count`` further ModelVersions at once, made by hand, until all are verified."""
        before = len(self.kubectl.list("modelversions"))

        def act() -> None:
            workshop.apply(self.kubectl, [model_version(number) for number in range(count)])
            self._until("modelversions", before + count)

        return self.meter.measure("verified alone", count, act)

    def quiet(self, count: int) -> Spent:
        """A minute in which nothing happens."""
        return self.meter.measure(f"{QUIET_SECONDS} s converged", count, lambda: time.sleep(QUIET_SECONDS), settling=0)

    def _until(self, kind: str, count: int) -> None:
        def ready() -> int:
            found = self.kubectl.list(kind)
            over = [each["metadata"]["name"] for each in found if is_true(each, "Stalled")]
            if over:
                raise RuntimeError(f"{len(over)} {kind} do not get there, {over[0]} among them")
            return sum(is_true(each, "Ready") for each in found)

        workshop.wait_for(kind, count, ready, self.operator, self.progress, PATIENCE_SECONDS)
