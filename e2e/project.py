"""The example project put into a cluster: its dataset in the store, its manifests with the cluster's own values.

The manifests of ``examples/defect-inspection`` are plain and complete; what differs from cluster to cluster (the
store's address and keys, the commit, the dataset's digest) is set on the parsed YAML.
"""

import copy
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import s3fs
import yaml

from e2e import git_server
from e2e.cluster.commands import run
from e2e.cluster.store import Store

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "defect-inspection"

RawObject = dict[str, Any]


@dataclass(frozen=True)
class Files:
    """The files in a cluster's store, read and written through its S3 API as any other client would."""

    store: Store

    @cached_property
    def filesystem(self) -> s3fs.S3FileSystem:
        """The store through fsspec; no listing is cached, since others write too."""
        return s3fs.S3FileSystem(
            key=self.store.access_key,
            secret=self.store.secret_key,
            endpoint_url=self.store.endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def uri(self, path: str) -> str:
        """The URI of a file in the cluster's bucket."""
        return f"s3://{self.store.bucket}/{path}"

    def read(self, uri: str) -> bytes:
        """The bytes that lie there now."""
        data: bytes = self.filesystem.cat_file(uri)
        return data

    def write(self, uri: str, data: bytes) -> None:
        """Put bytes there, over what was there."""
        self.filesystem.pipe_file(uri, data)

    def secret(self, namespace: str, name: str = "store") -> RawObject:
        """The Secret that pods open the store with."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": self.store.credentials,
        }


@dataclass(frozen=True)
class Dataset:
    """The drawn images, in the store."""

    uri: str
    sha256: str


def draw_dataset(files: Files, scratch: Path) -> Dataset:
    """Draw the example's images (seeded: the same bytes every time) and put them into the store."""
    path = scratch / "surfaces.npz"
    run(sys.executable, EXAMPLE / "draw.py", path)
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    uri = files.uri(f"datasets/surfaces-{digest[:12]}.npz")
    files.write(uri, data)
    return Dataset(uri=uri, sha256=digest)


@dataclass(frozen=True)
class Source:
    """This checkout's last commit, on a Git server that pods reach."""

    repository: str
    revision: str
    """The branch that ends in it."""
    commit: str


@contextmanager
def served_source(store: Store) -> Iterator[Source]:
    """Serve this checkout's last commit as branch main, beside the store, until the block ends."""
    with tempfile.TemporaryDirectory() as scratch:
        served = Path(scratch) / "modelfleet.git"
        run("git", "init", "--quiet", "--bare", "--initial-branch=main", served)
        run("git", "fetch", "--quiet", "--update-shallow", ROOT, "HEAD:refs/heads/main", folder=served)
        commit = run("git", "rev-parse", "refs/heads/main", folder=served).strip()
        with git_server.serving(Path(scratch), urlsplit(store.endpoint).hostname or "") as server:
            yield Source(server.url(served.name), "main", commit)


def manifest(name: str) -> list[RawObject]:
    """The objects of one of the example's files."""
    return [obj for obj in yaml.safe_load_all((EXAMPLE / name).read_text()) if obj]


def training_job(namespace: str, files: Files, dataset: Dataset, source: Source) -> RawObject:
    """The example's TrainingJob for this store, this commit and this dataset."""
    (job,) = (copy.deepcopy(obj) for obj in manifest("trainingjob.yaml") if obj["kind"] == "TrainingJob")
    job["metadata"]["namespace"] = namespace
    spec = job["spec"]
    spec["source"]["git"] |= {"repository": source.repository, "revision": source.revision}
    spec["initializer"]["dataset"] |= {"storageUri": dataset.uri, "digest": f"sha256:{dataset.sha256}"}
    spec["output"]["storageUri"] = files.uri(f"trained/{namespace}")
    return job


def edge_deployment(namespace: str, model_version: str) -> RawObject:
    """The example's EdgeDeployment, on this version."""
    (deployment,) = (copy.deepcopy(obj) for obj in manifest("edgedeployment.yaml") if obj["kind"] == "EdgeDeployment")
    deployment["metadata"]["namespace"] = namespace
    deployment["spec"]["modelVersion"] = model_version
    return deployment


def model_version(files: Files, path: str, data: bytes, model: str, version: str) -> RawObject:
    """A ModelVersion with one artifact of these bytes, put into the store; whether they are a model is not asked."""
    uri = files.uri(path)
    files.write(uri, data)
    artifact = {
        "name": "fp32",
        "uri": uri,
        "sha256": hashlib.sha256(data).hexdigest(),
        "sizeBytes": len(data),
        "format": "onnx",
        "precision": "fp32",
        "credentialsSecretRef": {"name": "store"},
    }
    return {
        "apiVersion": "modelfleet.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"{model}-{version.replace('.', '-')}"},
        "spec": {
            "model": model,
            "version": version,
            "artifacts": [artifact],
            "verification": {"inference": "None"},
        },
    }
