"""The local cluster itself: pods on its real node, simulated gateways, its store, and nothing left after ``down``.

It brings up a cluster of its own: it breaks parts of it.
"""

import os
import platform
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs

from e2e.cluster import cgroups, local, network, oci, programs, state
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import ClusterError, run, wait_until
from e2e.cluster.folders import Folder
from e2e.cluster.processes import Processes
from e2e.kubectl import Kubectl

IMAGE = "docker.io/modelfleet/probe:1"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the local cluster needs root; without it kind is taken")


@pytest.fixture(scope="module")
def own(say: Callable[[str], None]) -> Iterator[Cluster]:
    name = f"self-{os.getpid()}"
    try:
        yield local.up(name, gateways=6, report=say)
    finally:
        local.down(name, report=say)
        assert traces(Folder(name)) == []


@pytest.fixture(scope="module")
def web(own: Cluster, say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """A pod ``web`` that serves its host's name, behind a headless Service and one with an address."""
    archive = tmp_path_factory.mktemp("image") / "probe.tar"
    architecture = oci.ARCHITECTURES[platform.machine()]
    own.import_image(oci.write_archive(archive, IMAGE, programs.find("probe", say), ["/probe"], architecture))
    kubectl = own.kubectl.within("default")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "hostname": "web-0",
            "subdomain": "web",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "web",
                    "image": IMAGE,
                    "args": ["serve", ":8080"],
                    "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
                    "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
                }
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 8080}]},
    }
    balanced = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "balanced"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    kubectl.apply(pod, service, balanced)
    kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=60s")
    return kubectl


def traces(folder: Folder) -> list[str]:
    """What is left of a cluster on the host."""
    links = run("ip", "-o", "link")
    mounts = Path("/proc/mounts").read_text()
    found = {
        "processes": any(Processes(folder).parts().values()),
        "folder": folder.root.exists(),
        "namespace": folder.network_namespace in network.namespaces(),
        "links": f"mf-{folder.token}" in links,
        "mounts": str(folder.root) in mounts,
        "cgroups": any(cgroups.ROOT.glob(f"**/{folder.cgroup}")),
    }
    return [what for what, left in found.items() if left]


def hollow(path: Path, name: str, program: Path) -> Path:
    """An archive that announces an image but lacks its content: no import of it can succeed."""
    whole = oci.write_archive(path / "whole.tar", name, program, ["/probe"], oci.ARCHITECTURES[platform.machine()])
    target = path / "hollow.tar"
    with tarfile.open(whole) as source, tarfile.open(target, "w") as copy:
        for file in ("oci-layout", "index.json"):
            copy.addfile(source.getmember(file), source.extractfile(file))
    return target


def ask(kubectl: Kubectl, *words: str) -> str:
    return kubectl("exec", "web", "--", "/probe", *words)


def test_logs_of_a_pod_are_read(web: Kubectl) -> None:
    assert "serving on :8080" in web("logs", "web")


def test_a_pod_reaches_the_api_server_by_name(web: Kubectl) -> None:
    assert ask(web, "get", "https://kubernetes.default.svc/version").startswith("200 OK")


def test_the_name_of_a_pod_behind_a_headless_service_is_found(web: Kubectl) -> None:
    address = web("get", "pod", "web", "--output=jsonpath={.status.podIP}")
    assert ask(web, "lookup", "web-0.web.default.svc.cluster.local").split() == [address]
    assert ask(web, "lookup", "web-0.web").split() == [address]


def test_a_pod_reaches_itself_through_a_service(web: Kubectl) -> None:
    def answered() -> bool:
        return "web-0" in web("exec", "web", "--", "/probe", "get", "http://balanced", check=False)

    wait_until(answered, "kube-proxy to know the endpoint", 30)


def test_the_host_reaches_a_pod(web: Kubectl, say: Callable[[str], None]) -> None:
    address = web("get", "pod", "web", "--output=jsonpath={.status.podIP}")
    assert "web-0" in run(programs.find("probe", say), "get", f"http://{address}:8080")


def test_a_pod_reaches_the_store_when_it_is_there(own: Cluster, web: Kubectl) -> None:
    assert "AccessDenied" in ask(web, "get", own.store.endpoint)
    own.store.stop()
    try:
        assert "connection refused" in web("exec", "web", "--", "/probe", "get", own.store.endpoint, check=False)
    finally:
        own.store.start()
    assert "AccessDenied" in ask(web, "get", own.store.endpoint)


def test_a_forged_object_is_read_as_if_it_were_genuine(own: Cluster) -> None:
    store, uri = own.store, "s3://models/forged"

    def bucket() -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(
            key=store.access_key, secret=store.secret_key, endpoint_url=store.endpoint, skip_instance_cache=True
        )

    bucket().pipe(uri, b"genuine")
    assert store.file(uri).read_bytes() == b"genuine"
    store.forge(uri, b"another")
    assert bucket().cat(uri) == b"another"


def test_an_image_that_is_there_is_not_imported_again(own: Cluster, web: Kubectl, tmp_path: Path) -> None:
    program = programs.find("probe", lambda _: None)
    own.import_image(hollow(tmp_path, IMAGE, program))
    other = tmp_path / "probe"
    other.write_bytes(program.read_bytes() + b"changed")
    with pytest.raises(ClusterError):
        own.import_image(hollow(tmp_path, IMAGE, other))


def test_an_offline_gateway_keeps_its_pods_and_does_as_asked_on_return(own: Cluster) -> None:
    kubectl, gateway = own.kubectl.within("default"), own.gateways.names()[0]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "played"},
        "spec": {
            "nodeName": gateway,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "none", "image": "none"}],
        },
    }
    kubectl.apply(pod)
    kubectl("wait", "pod/played", "--for=condition=Ready", "--timeout=30s")
    own.gateways.take_offline(gateway)
    own.kubectl("wait", f"node/{gateway}", "--for=condition=Ready=Unknown", "--timeout=30s")
    kubectl("delete", "pod", "played", "--wait=false")
    left = kubectl.get("pod", "played")
    assert left is not None
    assert "deletionTimestamp" in left["metadata"]
    own.gateways.bring_back(gateway)
    kubectl("wait", "pod/played", "--for=delete", "--timeout=30s")
    own.kubectl("wait", f"node/{gateway}", "--for=condition=Ready=True", "--timeout=30s")


def test_a_fleet_grows_and_shrinks(own: Cluster) -> None:
    own.gateways.scale(9)
    assert len(own.gateways.names()) == 9
    own.gateways.scale(6)
    assert len(own.gateways.names()) == 6


def test_requests_are_in_the_audit_log(own: Cluster) -> None:
    assert own.audit_log is not None
    own.kubectl.within("default")("create", "configmap", "seen-in-the-log")
    assert '"name":"seen-in-the-log"' in own.audit_log.read_text()


def test_two_clusters_live_side_by_side_and_a_broken_one_is_made_anew(own: Cluster, say: Callable[[str], None]) -> None:
    name = f"other-{os.getpid()}"
    try:
        local.up(name, report=say)
        assert local.is_whole(Folder(name))
        os.kill(Processes(Folder(name)).pid("containerd"), signal.SIGKILL)
        wait_until(lambda: not local.is_whole(Folder(name)), "the loss to be seen", 10)
        local.up(name, report=say)
        assert local.is_whole(Folder(name))
    finally:
        local.down(name, report=say)
    assert traces(Folder(name)) == []
    assert local.is_whole(own.folder)


@pytest.mark.parametrize("part", ["etcd", "containerd", "kubelet"])
def test_nothing_is_left_of_a_cluster_whose_making_was_killed(part: str, say: Callable[[str], None]) -> None:
    folder = Folder(f"half-{os.getpid()}")
    command = [sys.executable, "-m", "e2e.cluster", "up", "--cluster", "local", "--name", folder.name]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as making:

        def started() -> bool:
            now = state.load(folder)
            return now is not None and part in now.processes

        wait_until(started, f"{part} to be started", 60)
        making.kill()
    assert traces(folder) != []
    local.down(folder.name, report=say)
    assert traces(folder) == []
