"""A small world for plans that run Jobs: it carries Outcomes out and plays the Job controller and the kubelet.

There is no API server in it: what a plan observes is what earlier Outcomes left behind, and what a test says became of
a Job. What the plans' reconciles gather on top (fresh reads, Events) is theirs to test on a real one.
"""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelfleet.api import names
from modelfleet.cluster.view import trim
from modelfleet.plan import conditions, job_state, node_class
from modelfleet.plan.installation import Installation, NodePool
from modelfleet.plan.outcome import Note, Outcome
from modelfleet.plan.refusal import Refusal
from modelfleet.plan.training import gate, recall, steps, trainer_status, training_job
from modelfleet.plan.version import aliases, model_version, verification
from modelfleet.plan.version import attempts as verifying

Object = dict[str, Any]

START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
INSTALLATION = Installation(
    name="modelfleet",
    namespace="system",
    runtime_image="modelfleet/runtime:1",
    node_pools={"cuda": NodePool({"pool": "cuda"}, ({"key": "gpu", "operator": "Exists"},))},
)
COMMIT = "4f2c" * 10
DIGEST = "77aa" * 16


class World:
    """The objects of one namespace, the clock, and the Events so far."""

    def __init__(self, obj: Object) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.installation = INSTALLATION
        self.name = (obj["kind"], obj["metadata"]["name"])
        self.now = START
        self.notes: list[Note] = []
        self.refusals: dict[str, Refusal] = {}
        self.forced: list[str] = []
        self.trouble: job_state.Trouble | None = None
        self.listening_since = START
        self.reports: dict[str, trainer_status.Report] = {}
        self.waits_for = ""
        self.put(obj)

    @property
    def obj(self) -> Object:
        """The object that is reconciled."""
        return self.objects[self.name]

    @property
    def status(self) -> Object:
        return dict(self.obj.get("status") or {})

    @property
    def reasons(self) -> list[str]:
        return [note.reason for note in self.notes]

    def put(self, obj: Object) -> None:
        obj = copy.deepcopy(obj)
        metadata = obj["metadata"]
        metadata.setdefault("uid", f"{metadata['name']}-uid")
        metadata.setdefault("namespace", "vision")
        metadata.setdefault("creationTimestamp", conditions.timestamp(self.now))
        metadata.setdefault("generation", 1)
        self.objects[obj["kind"], metadata["name"]] = obj

    def edit(self, **spec: Any) -> None:
        self.obj["spec"].update(spec)
        self.obj["metadata"]["generation"] += 1

    def condition(self, type_: str) -> Object:
        return dict(conditions.find(self.status.get("conditions", ()), type_) or {})

    def all(self, kind: str) -> list[Object]:
        return [obj for (each, _), obj in sorted(self.objects.items()) if each == kind]

    def pods(self) -> list[Object]:
        """As the view holds them."""
        return [trim(pod) for pod in self.all("Pod")]

    def job(self, name: str) -> Object | None:
        return self.objects.get(("Job", name))

    def unfinished(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.all("Job") if job_state.ending(job) is None]

    def carry_out(self, outcome: Outcome, writes: int | None = None) -> int:
        """Carry an Outcome out, or only its first ``writes`` writes, as an operator does that is killed midway."""
        made = 0

        def may() -> bool:
            nonlocal made
            made += 1
            return writes is None or made <= writes

        for obj in [*outcome.create, *outcome.apply]:
            key = (obj["kind"], obj["metadata"]["name"])
            if key not in self.objects and may():
                self.put(obj)
        for ref in outcome.delete:
            if (ref.kind, ref.name) in self.objects and may():
                if ref.kind == "Job":
                    self.delete_job(ref.name)
                else:
                    del self.objects[ref.kind, ref.name]
                    self.forced += [ref.name] if ref.by_force else []
                if (ref.kind, ref.name) == self.name:
                    return made
        if writes is None:
            self.notes += [note for note in outcome.notes if note not in self.notes]
        status = json.loads(json.dumps(outcome.status, default=dict))
        wanted = without_nulls(status)
        if status is not None and wanted != self.obj.get("status") and may():
            self.obj["status"] = wanted
        return made

    def delete_job(self, name: str) -> None:
        del self.objects["Job", name]
        for pod in self.all("Pod"):
            if pod["metadata"]["labels"][job_state.JOB_NAME_LABEL] != name:
                continue
            node = self.objects.get(("Node", pod.get("spec", {}).get("nodeName", "")))
            if node is not None and not node_class.ready_since(node)[0]:
                # Nobody is there who could end it.
                pod["metadata"]["deletionTimestamp"] = conditions.timestamp(self.now + timedelta(seconds=30))
            else:
                del self.objects["Pod", pod["metadata"]["name"]]

    def settle(self) -> int:
        """Plan and carry out until nothing is left to write; how many writes that took."""
        total = 0
        for _ in range(20):
            made = self.carry_out(self.plan())
            total += made
            if not made or self.name not in self.objects:
                return total
        raise AssertionError(f"never at rest: {self.plan()}")

    def wait(self, seconds: float) -> int:
        self.now += timedelta(seconds=seconds)
        return self.settle()

    def finish(
        self, job: str, message: str = "", code: int = 0, container: str = "", reason: str = "BackoffLimitExceeded"
    ) -> None:
        """End a Job and its pods; rank 0 leaves this termination message."""
        obj = self.objects["Job", job]
        template = obj["spec"]["template"]
        container = container or template["spec"]["containers"][0]["name"]
        ended = {"exitCode": code, "message": message, "finishedAt": conditions.timestamp(self.now)}
        for index in range(obj["spec"].get("completions", 1)):
            self.put(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{job}-{index}",
                        "labels": {**template["metadata"]["labels"], job_state.JOB_NAME_LABEL: job},
                        "annotations": {job_state.COMPLETION_INDEX: str(index)},
                    },
                    "status": {
                        "phase": "Failed" if code else "Succeeded",
                        "containerStatuses": [{"name": container, "image": "i", "state": {"terminated": ended}}],
                    },
                }
            )
        type_ = "Failed" if code or reason != "BackoffLimitExceeded" else "Complete"
        moment = conditions.timestamp(self.now)
        said = {"reason": reason, "message": "said the Job controller"} if type_ == "Failed" else {}
        obj["status"] = {"conditions": [{"type": type_, "status": "True", "lastTransitionTime": moment, **said}]}

    def tell(self, step: str, attempt: int, **said: Any) -> None:
        """A pod of this attempt reports its progress."""
        report = trainer_status.Report(step, attempt, self.now, **said)
        self.reports[step] = trainer_status.merged(self.reports.get(step), report)

    def run(self, job: str, *nodes: str) -> None:
        """Pods of a Job, one on each of these nodes, running; without a node where there was no room, since now."""
        template = self.objects["Job", job]["spec"]["template"]
        for index, node in enumerate(nodes):
            moment = conditions.timestamp(self.now)
            waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": moment}
            self.put(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{job}-{index}",
                        "labels": {**template["metadata"]["labels"], job_state.JOB_NAME_LABEL: job},
                        "annotations": {job_state.COMPLETION_INDEX: str(index)},
                    },
                    "spec": {"nodeName": node} if node else {},
                    "status": {"phase": "Running"} if node else {"phase": "Pending", "conditions": [waits]},
                }
            )
            if node and ("Node", node) not in self.objects:
                self.node(node, ready=True)

    def up(self, job: str, count: int | None = None) -> None:
        """Pods of a Job, all of them or ``count``, running and ready from now on, each on a node of its own."""
        wanted = self.objects["Job", job]["spec"]["completions"]
        ready = wanted if count is None else count
        self.run(job, *(f"{job}-on-{index}" for index in range(wanted)))
        moment = conditions.timestamp(self.now)
        for index in range(ready):
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": moment}
            self.objects["Pod", f"{job}-{index}"]["status"]["conditions"] = [condition]

    def node(self, name: str, *, ready: bool) -> None:
        """A node that is, or is not, within reach from now on."""
        moment = conditions.timestamp(self.now)
        condition = {"type": "Ready", "status": "True" if ready else "Unknown", "lastTransitionTime": moment}
        self.put(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "namespace": ""},
                "status": {"conditions": [condition]},
            }
        )

    def plan(self) -> Outcome:
        """The next step, which leaves what is observed as it is."""
        before = json.dumps(list(self.objects.values()))
        outcome = self._plan_training() if self.obj["kind"] == "TrainingJob" else self._plan_version()
        assert json.dumps(list(self.objects.values())) == before
        return outcome

    def _plan_training(self) -> Outcome:
        jobs, pods = self.all("Job"), self.pods()
        nodes = {node["metadata"]["name"]: node for node in self.all("Node")}
        attempts = {
            step["name"]: steps.Attempt(
                found,
                job_state.pods_of(found, pods) if found is not None else (),
                self.trouble,
                nodes,
                self.waits_for,
                self._recalled(step, pods),
            )
            for step in self.status.get("steps", ())
            if step["phase"] != "Succeeded" and step.get("jobName")
            for found in [self.job(step["jobName"])]
        }
        version = self.objects.get(("ModelVersion", self.obj["spec"]["output"]["modelVersionName"]))
        observed = training_job.Observed(
            attempts,
            jobs,
            version,
            self.refusals,
            self._resolving(pods),
            gate.online(self.obj["spec"]["model"], self.all("ModelVersion")),
            services=self.all("Service"),
            pods=pods,
            nodes=nodes,
            reports=list(self.reports.values()),
            listening_since=self.listening_since,
        )
        return training_job.plan(self.obj, observed, self.installation, self.now)

    def _resolving(self, pods: list[Object]) -> steps.Attempt | None:
        source = self.status.get("source", {})
        if "jobName" not in source or "revision" in source:
            return None
        found = self.job(source["jobName"])
        return steps.Attempt(found, job_state.pods_of(found, pods) if found is not None else (), self.trouble)

    def _recalled(self, step: Object, pods: list[Object]) -> steps.Attempt:
        found = self.job(recall.job_name(self.name[1], step["name"], step["attempt"]))
        return steps.Attempt(found, job_state.pods_of(found, pods) if found is not None else ())

    def _plan_version(self) -> Outcome:
        job_name = verification.job_name(self.name[1], verifying.read(self.obj).attempt)
        found = self.job(job_name)
        observed = model_version.Observed(
            latest=verifying.Seen(
                job=found,
                pods=job_state.pods_of(found, self.pods()) if found is not None else (),
                trouble=self.trouble,
                refusals=self.refusals,
            ),
            deployments=self.all("EdgeDeployment"),
            siblings=[
                aliases.Sibling(
                    model_version.ModelVersionSpec.model_validate(other["spec"]),
                    (other.get("status") or {}).get("aliases", ()),
                )
                for other in self.all("ModelVersion")
                if other is not self.obj
            ],
        )
        return model_version.plan(self.obj, observed, self.installation, self.now)


def without_nulls(value: Any) -> Any:
    """As the API server stores it."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def step(name: str, *after: str, **fields: Any) -> Object:
    body: Object = {"name": name, **({} if "trainer" in fields else {"image": "registry.example/step:1"}), **fields}
    return {**body, "dependsOn": [{"name": each, "status": "Complete"} for each in after]} if after else body


def job(*steps_: Object, **spec: Any) -> Object:
    """A TrainingJob as the API server stores it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TrainingJob",
        "metadata": {"name": "nightly", "uid": "0a1b2c3d-0000-4000-8000-000000000000"},
        "spec": {
            "model": "m",
            "version": "1.0.0",
            "suspend": False,
            "backoffLimit": 3,
            **({"steps": list(steps_)} if steps_ else {}),
            "output": {"storageUri": "s3://models/m", "modelVersionName": "m-1-0-0", "secretRef": {"name": "store"}},
            **spec,
        },
    }


def artifact(name: str = "fp32", **fields: Any) -> Object:
    return {
        "name": name,
        "uri": f"s3://models/m/{name}.onnx",
        "sha256": DIGEST,
        "sizeBytes": 1000,
        "format": "onnx",
        "precision": "fp32",
        **fields,
    }


def report(artifacts: tuple[Object, ...] = (), **metrics: str) -> str:
    """The termination message of a step that did its work."""
    body = {"uri": "s3://models/m/results.json", "sha256": DIGEST, "metrics": metrics, "artifacts": list(artifacts)}
    return json.dumps(body)


def no_results() -> str:
    """The termination message of ``recall`` where the store has no results."""
    return json.dumps({"file": "results.json", "reason": "Unreachable", "message": "s3://…: not found in the store"})


def resolved(*refs: str, commit: str = COMMIT, **fields: Any) -> str:
    """The termination message of ``resolve``."""
    return json.dumps({"commit": commit, "refs": list(refs), **fields})


def version(number: str = "1.0.0", artifacts: tuple[Object, ...] = (), **spec: Any) -> Object:
    """A ModelVersion as the API server stores it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelVersion",
        "metadata": {"name": f"m-{number.replace('.', '-')}"},
        "spec": {"model": "m", "version": number, "artifacts": list(artifacts) or [artifact()], **spec},
    }


def verified(*files: Object) -> str:
    """The termination message of ``verify``."""
    return json.dumps({"artifacts": list(files) or [{"name": "fp32", "verified": True, "sizeBytes": 1000}]})
