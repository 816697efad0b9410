"""The benchmark of trainings without a cluster: its objects are valid, its reports are read, its counts are right."""

import re

import pytest
import yaml

from e2e.audit import Request, tally
from e2e.bench import jobsets, meter, trainings, workshop
from e2e.bench.meter import Spent
from modelfleet.api import wire
from modelfleet.api.model_version import ModelVersion
from modelfleet.api.training_job import TrainingJob
from modelfleet.plan.training import registration


def messages() -> dict[str, str]:
    """What containers leave behind, by the name of the stage that ends them."""
    stages = yaml.safe_load_all(workshop.STAGES.read_text())
    templates = {stage["metadata"]["name"]: stage["spec"]["next"]["statusTemplate"] for stage in stages}
    found = {name: re.findall(r"message: '(.*)'", template) for name, template in templates.items()}
    assert all(len(each) == 1 for each in found.values())
    return {name: each[0] for name, each in found.items()}


def test_a_training_registers_what_its_simulated_pods_report() -> None:
    job = trainings.training_job(7)
    spec = TrainingJob.model_validate(job).spec
    report = wire.StepReport.model_validate_json(messages()["training-complete"])
    result = report.model_dump(by_alias=True, exclude_defaults=True)
    metrics, artifacts = registration.merged([result])
    job["metadata"] |= {"namespace": "trainings", "uid": "7"}
    version = ModelVersion.model_validate(registration.model_version(job, spec, metrics, artifacts))
    assert float(metrics["accuracy"]) >= float(spec.gate[0].value or "nan")
    given = ModelVersion.model_validate(trainings.model_version(7)).spec
    assert version.spec.artifacts == given.artifacts


def test_the_simulated_verification_speaks_of_every_artifact() -> None:
    report = wire.VerifyReport.model_validate_json(messages()["verification-complete"])
    given = ModelVersion.model_validate(trainings.model_version(1)).spec
    assert {each.name for each in report.artifacts if each.verified} == {each.name for each in given.artifacts}
    assert [each.size_bytes for each in report.artifacts] == [each.size_bytes for each in given.artifacts]


def test_both_sides_run_as_many_pods_of_the_same_name() -> None:
    ours = TrainingJob.model_validate(trainings.training_job(1)).spec.steps[0]
    job = jobsets.jobset(1)["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert ours.trainer is not None
    assert ours.trainer.num_nodes == job["completions"] == job["parallelism"]
    # The stage that lets pods work for a while knows them by their container.
    assert ours.name == job["template"]["spec"]["containers"][0]["name"] == "train"


@pytest.mark.parametrize(("jobs", "least"), [(1, 5), (1000, 5000)])
def test_the_nodes_have_room_for_all_pods_at_once(jobs: int, least: int) -> None:
    made = workshop.nodes(jobs)
    assert sum(int(node["status"]["allocatable"]["pods"]) for node in made) >= least
    assert all("taints" not in node["spec"] for node in made)


def request(verb: str, resource: str, **fields: bool) -> Request:
    return Request("operator", verb, resource, "trainings", "trained-00001", 200, **fields)


def test_a_dry_run_is_no_write_but_a_request() -> None:
    asked = [request("create", "jobs", dry_run=True), request("create", "jobs"), request("get", "jobs")]
    spent = Spent("trained", 1, asked, 0.1, 0, 0)
    assert (spent.made, spent.reads) == (1, 1)
    assert tally(asked) == {"create jobs": 1, "create jobs (dry run)": 1, "get jobs": 1}


def test_requests_are_counted_for_each_object() -> None:
    lease, watch = request("update", "leases"), request("watch", "jobs")
    asked = [request("patch", "trainingjobs/status")] * 6 + [request("create", "jobs")] * 2 + [lease, watch]
    spent = Spent("trained", 2, asked, 0.1, 0, 0)
    assert spent.each() == {"patch trainingjobs/status": 3.0, "create jobs": 1.0}
    table = meter.requests_table("Requests", {"ours": spent, "theirs": Spent("run", 1, asked[-3:], 0.2, 0, 0)})
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows == [
        ("create jobs", "1.00", "1.00"),
        ("patch trainingjobs/status", "3.00", ""),
        ("writes", "4.00", "1.00"),
        ("all requests", "4.00", "1.00"),
        ("CPU ms", "50.0", "200.0"),
    ]
