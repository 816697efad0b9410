"""Nodes that die under a training, against the real Job controller, and the end of jobs that are over.

A Node object without a kubelet is a node that nobody can reach.
"""

import json

import pytest

from e2e.kubectl import is_true
from modelfleet.plan import job_state
from tests.integration.training.conftest import Bench, artifact, report, step, training_job

TRAINER = {"image": "registry.example/train:1", "numNodes": 2}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods that are overdue go at once."""
    monkeypatch.setattr(job_state, "STUCK_SECONDS", 0)


def dead_node(bench: Bench, name: str) -> None:
    """A node that has been out of reach for a long time."""
    bench.kubectl.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    condition = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = json.dumps({"status": {"conditions": [condition]}})
    bench.kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")


@pytest.mark.usefixtures("impatient")
def test_a_gang_leaves_a_dead_node_and_nothing_of_it_stays(bench: Bench) -> None:
    node = f"dead-{bench.kubectl.namespace}"
    bench.kubectl.apply(training_job(step("train", trainer=TRAINER), backoffLimit=0))
    bench.job("nightly-train-1")
    lost = bench.pods("nightly-train-1")[1]["metadata"]["name"]
    try:
        bench.bind(bench.pods("nightly-train-1")[1], node)
        dead_node(bench, node)
        # What a kubelet's silence leads to: the pod is marked for deletion, and stays.
        bench.kubectl("delete", "pod", lost, "--grace-period=1", "--wait=false")
        bench.job("nightly-train-2")
        bench.kubectl("wait", "job/nightly-train-1", "--for=delete", "--timeout=180s")
        bench.kubectl("wait", f"pod/{lost}", "--for=delete", "--timeout=180s")
        running = bench.until("trainingjob", "nightly", lambda job: job["status"]["attempt"] == 2)
        assert (running["status"]["phase"], running["status"]["restarts"]) == ("Running", 0)
        assert "NodeLost" in bench.events("nightly")
    finally:
        bench.kubectl("delete", "node", node, "--ignore-not-found")


def test_a_job_that_is_over_expires_and_one_that_git_keeps_loses_its_children_only(bench: Bench) -> None:
    kept = training_job(step("train", trainer=TRAINER), ttlSecondsAfterFinished=0)
    kept["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "app:modelfleet.dev/TrainingJob:x/nightly"}
    bench.kubectl.apply(kept)
    bench.finish("nightly-train-1", report(artifact()))
    bench.kubectl("wait", "job/nightly-train-1", "--for=delete", "--timeout=180s")
    bench.kubectl("wait", "service/nightly-training", "--for=delete", "--timeout=180s")
    over = bench.until("trainingjob", "nightly", lambda job: is_true(job, "Ready"))
    assert over["status"]["phase"] == "Succeeded"
    bench.kubectl("annotate", "trainingjob", "nightly", "argocd.argoproj.io/tracking-id-")
    bench.kubectl("wait", "trainingjob/nightly", "--for=delete", "--timeout=180s")
    assert bench.kubectl.get("modelversion", "m-1-0-0") is not None
