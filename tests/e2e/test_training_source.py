"""Code and data of trainings, brought into real pods from real Git servers: over SSH, and over HTTP with a token."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from e2e import git_server
from e2e.git_server import Repository
from e2e.kubectl import Kubectl, is_true
from e2e.project import Files
from modelfleet.api.wire import CREDENTIALS_ROOT
from tests import objects, ssh_server
from tests.dvc_project import PROJECT, REMOTE

TOKEN = "of-the-test"  # noqa: S105 (of a server that lives as long as the test)

DATA = {
    path: hashlib.sha256(content).hexdigest()
    for path, content in {
        "data/images/a.bin": b"one",
        "data/images/deep/b.bin": b"two\n",
        "labels.csv": b"x,y\n1,2\n",
        "scaled.bin": b"one\ntwo\n",
    }.items()
}

TRAIN = f"""
import hashlib, pathlib
found = {{path: hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() for path in {list(DATA)!r}}}
assert found == {DATA!r}, found
for key in ("ssh-privatekey", "token"):
    assert not list(pathlib.Path({CREDENTIALS_ROOT!r}).rglob(key)), "a step sees what opens the repository"
{objects.ARTIFACT}
"""
"""A program of the repository: it looks at the data that was to be brought, and then reports."""

EVALUATE = objects.REPORT.format(metrics="{'recall': 0.9}")

NEWER = "raise SystemExit('of a commit that came later')"


def step(name: str, image: str, *after: str) -> objects.RawObject:
    return objects.step(name, image, "", *after) | {"command": ["python", f"{name}.py"]}


def secret(name: str, **keys: str) -> objects.RawObject:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}


def source(repository: str, revision: str, secret: str) -> objects.RawObject:
    git = {"repository": repository, "revision": revision, "path": "vision", "secretRef": {"name": secret}}
    return {"git": git, "dvc": {"secretRef": {"name": "store"}}}


def training(
    files: Files, namespace: str, name: str, steps: list[objects.RawObject], source: objects.RawObject
) -> objects.RawObject:
    return objects.training_job(files, namespace, steps, name=name, model=name, backoffLimit=0, source=source)


def lineage(kubectl: Kubectl, job: str) -> objects.RawObject:
    """Of the version that a job registers, once it did."""
    kubectl.wait_for("trainingjob", job, lambda observed: is_true(observed, "Ready"), timeout=300)
    version = kubectl.get("modelversion", f"{job}-1-0-0")
    assert version is not None
    return {"channel": version["spec"]["channel"], **version["spec"]["lineage"]}


def test_steps_run_the_commit_and_the_data_of_their_source_and_the_version_says_which(
    kubectl: Kubectl, files: Files, namespace: str, train_image: str, tmp_path: Path
) -> None:
    remote = files.uri(f"dvc/{namespace}")
    for name, content in REMOTE.items():
        files.write(f"{remote}/{name}", content)
    project = {f"vision/{name}": text.format(url=remote) for name, text in PROJECT.items()}
    repository = Repository.create(tmp_path / "defect")
    first = repository.commit(project | {"vision/train.py": TRAIN, "vision/evaluate.py": EVALUATE})
    repository.git("branch", "release/1.4")
    host = urlsplit(files.store.endpoint).hostname or ""
    with ssh_server.serving(tmp_path, host) as ssh, git_server.serving(tmp_path, host) as http:
        http.account = ("oauth2", TOKEN)
        kubectl.apply(
            secret("deploy-key", **{"ssh-privatekey": ssh.private_key, "known_hosts": ssh.known_hosts}),
            secret("token", token=TOKEN),
            training(
                files,
                namespace,
                "over-ssh",
                [step("train", train_image), step("evaluate", train_image, "train")],
                source(ssh.url("defect"), "main", "deploy-key"),
            ),
            training(
                files,
                namespace,
                "over-http",
                [step("train", train_image)],
                source(http.url("defect/.git"), "release/1.4", "token"),
            ),
        )
        for name in ("over-ssh", "over-http"):
            kubectl.wait_for("trainingjob", name, lambda job: job.get("status", {}).get("source", {}).get("revision"))
        repository.commit({"vision/train.py": NEWER, "vision/evaluate.py": NEWER})
        repository.git("branch", "--force", "release/1.4")
        over_ssh, over_http = lineage(kubectl, "over-ssh"), lineage(kubectl, "over-http")
    assert over_ssh["git"] == {"repository": ssh.url("defect"), "revision": first}
    assert over_http["git"] == {"repository": http.url("defect/.git"), "revision": first}
    assert (over_ssh["channel"], over_http["channel"]) == ("production", "preproduction")
    for recorded in (over_ssh["dvc"], over_http["dvc"]):
        assert recorded["revision"] == first
        assert recorded["params"]["model.layers"] == "[8, 16]"
        assert {each["path"]: each["digest"] for each in recorded["data"]}["labels.csv"] == (
            "md5:344fd2323dd33d5c058b7cf27de029e8"
        )
