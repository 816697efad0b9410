"""What the tests run on: nothing, a cluster for the chart alone, or the local cluster with the operator in it.

The workers of ``make test`` share them out by cluster, the longest first. In one process (``WORKERS=0``) unit tests
come first, then integration, then e2e, so that the cheap ones speak first. A cluster that the run made is taken down
with it; ``MODELFLEET_TEST_CLUSTER=NAME`` uses one that stays up instead, which is quicker when working on a test.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from e2e import install
from e2e.cluster import choice as clusters
from e2e.cluster import mesh, prometheus, state
from e2e.cluster.cluster import Cluster
from e2e.helm import NAMESPACE, Helm
from e2e.kubectl import Kubectl

GATEWAYS = 200
# How long one example takes says more about the machine than about the code.
settings.register_profile("modelfleet", deadline=None)
settings.load_profile("modelfleet")
_OF_A_RUN = re.compile(r"(?:api|chart|core|edge|half|late|other|self|test|training)-(\d+)")
"""Names of clusters that belong to a test run: what it is for, and the run's process id."""
_ORDER = ("unit", "integration", "e2e")


def folders(path: str) -> list[str]:
    """The folders below ``tests`` of a test's file."""
    return path.split("/")[1:-1]


def pytest_configure(config: pytest.Config) -> None:
    """Have what processes leave in the system's folder for temporary files, killed ones above all, go with the run."""
    if hasattr(config, "workerinput") or os.environ.get("MODELFLEET_TEST_CLUSTER"):
        # A worker has it from the run; and a cluster that stays up keeps what it was started with.
        return
    folder = Path(tempfile.mkdtemp(prefix="modelfleet-test-"))
    # As /tmp is: some of what the tests start has no rights of its own.
    folder.chmod(0o1777)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None

    def clean() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        tempfile.tempdir = None
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before

    config.add_cleanup(clean)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order by folder, and mark by folder."""

    def first(item: pytest.Item) -> str:
        return folders(item.nodeid)[0]

    items.sort(key=lambda item: _ORDER.index(first(item)), reverse=hasattr(config, "workerinput"))
    for item in items:
        if first(item) != "unit":
            item.add_marker(first(item))


class ByCluster(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that share a cluster stay on one worker, in their order; what takes longest begins first."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if folders(path)[0] == "unit":
            return path
        if len(folders(path)) > 1:
            return "/".join(folders(path))
        # What lies in no package of its own uses the local cluster. Traffic takes as long as all else there: it has one
        # of its own, unless one worker comes to do both.
        return "traffic" if Path(path).stem.startswith("test_traffic") else "local"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCluster:
    """How several workers share the tests."""
    config.option.loadscopereorder = False
    return ByCluster(config, log)


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints progress past pytest's capturing: a cold set-up takes minutes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def print_now(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n  · {line}", end="", flush=True, file=sys.stderr)

    return print_now


@pytest.fixture(scope="session", autouse=True)
def nothing_left_of_killed_runs() -> None:
    """Take down the clusters of runs that ended before they could: their process is gone."""
    for name in state.names():
        run = _OF_A_RUN.fullmatch(name)
        if run and not Path(f"/proc/{run[1]}").exists():
            clusters.down(name, report=lambda _: None)


@pytest.fixture(scope="session")
def cluster(say: Callable[[str], None]) -> Iterator[Cluster]:
    """The local cluster: one real node, 200 simulated gateways, a store. The chart is not installed by this."""
    kept = os.environ.get("MODELFLEET_TEST_CLUSTER", "")
    name = kept or f"test-{os.getpid()}"
    try:
        # Never the cluster that KUBECONFIG happens to name: the tests kill operators and take nodes away.
        up = clusters.up(name, gateways=GATEWAYS, wish="own", report=say)
        version = up.kubectl("version")
        say(f"ran on: cluster {name} ({up.kind}), {' '.join(version.split())}, {GATEWAYS} simulated gateways")
        yield up
    finally:
        if not kept:
            clusters.down(name, report=say)


@pytest.fixture(scope="session")
def helm(cluster: Cluster, say: Callable[[str], None]) -> Helm:
    """Helm, bound to the cluster."""
    return install.helm(cluster, say)


@pytest.fixture(scope="session")
def images(cluster: Cluster, say: Callable[[str], None]) -> dict[str, str]:
    """The images that the operator needs, on the real node: names by target."""
    return install.load_images(cluster, install.TARGETS, say)


@pytest.fixture(scope="session")
def installed(cluster: Cluster, helm: Helm, images: dict[str, str], say: Callable[[str], None]) -> Kubectl:
    """The chart installed with two replicas of the operator, ready; kubectl with every right."""
    chosen = list(SETTINGS)
    allowed = {
        "analysis.prometheusAddresses": [prometheus.address(cluster)],
        "traffic.probeAddresses": mesh.addresses(cluster),
    }
    for name, addresses in allowed.items():
        if any(addresses):
            chosen.append(f"{name}={{{','.join(addresses)}}}")
    helm.install(*install.values(images, chosen), "--wait", "--timeout=5m")
    say("the operator is ready")
    return cluster.kubectl


SETTINGS = ("operator.sweepIntervalSeconds=5", "operator.logFormat=plain")
"""The tests wait for a sweep; a user's fleet has minutes."""


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, with the store's Secret in it; deleted after the test."""
    number = abs(hash(request.node.nodeid)) % 16**6
    name = f"t-{number:06x}-{os.getpid()}"
    cluster.kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "store", "namespace": name},
            "stringData": cluster.store.credentials,
        },
    )
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def kubectl(installed: Kubectl, namespace: str) -> Kubectl:
    """Kubectl with every right, in the test's namespace, the operator running."""
    return installed.within(namespace)


@pytest.fixture
def operator_pods(installed: Kubectl) -> Kubectl:
    """Kubectl in the operator's own namespace."""
    return installed.within(NAMESPACE)
