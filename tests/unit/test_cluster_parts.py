"""What the local cluster is made of, as far as it is computed: addresses, programs, certificates, images, gateways."""

import ipaddress
import itertools
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from e2e.cluster import (
    certificates,
    cgroups,
    gateways,
    host,
    kind,
    node_configuration,
    oci,
    programs,
    prometheus_targets,
    toolchain,
)
from e2e.cluster.commands import ClusterError, Report
from e2e.cluster.folders import Folder
from e2e.cluster.network import RANGES, Network


def test_the_addresses_of_a_cluster_do_not_overlap() -> None:
    network = Network(3)
    parts = [
        ipaddress.ip_network(each)
        for each in (network.pods, network.services, network.simulated_pods, f"{network.host}/32", f"{network.node}/32")
    ]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(parts, 2))
    assert all(part.subnet_of(network.range) for part in parts if isinstance(part, ipaddress.IPv4Network))
    assert ipaddress.ip_address(network.api_service) in parts[1]


def test_no_two_clusters_share_an_address() -> None:
    ranges = [Network(index).range for index in range(RANGES)]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(ranges, 2))


@pytest.mark.parametrize(
    ("name", "printed", "fits"),
    [
        ("kube-apiserver", "Kubernetes v1.36.3", True),
        ("kube-apiserver", "Kubernetes v1.35.9", False),
        ("kubelet", "Kubernetes v1.34.0", True),
        ("kubelet", "Kubernetes v1.37.0", False),
        ("kubectl", "Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", False),
        ("kubectl", "Client Version: v1.33.0", True),
        ("etcd", "etcd Version: 3.5.21\nGit SHA: a17edfd", True),
        ("etcd", "etcd Version: 3.4.30", False),
        ("helm", "v3.22.0+g1234567", True),
        ("helm", "v4.0.1", False),
        ("kwok", "kwok version (devel)", False),
        ("coredns", "CoreDNS-1.14.0", False),
    ],
)
def test_only_a_prebuilt_program_that_fits_is_taken(name: str, printed: str, *, fits: bool) -> None:
    assert programs.version_fits(programs.PROGRAMS[name], printed) is fits


def test_a_build_is_keyed_by_what_it_is_built_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = programs.build_key("pause")
    module = tmp_path / "pause"
    module.mkdir()
    for file in (programs.SOURCES / "pause").iterdir():
        (module / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(programs, "SOURCES", tmp_path)
    assert programs.build_key("pause") == before
    (module / "main.go").write_text("package main\n")
    assert programs.build_key("pause") != before


def test_every_program_has_a_module_to_build_it_from() -> None:
    for name, program in programs.PROGRAMS.items():
        assert (programs.SOURCES / program.module / "go.mod").is_file(), name


@pytest.mark.parametrize(
    ("printed", "enough"),
    [("go version go1.26.0 linux/amd64", True), ("go version go1.27.3 linux/arm64", True), ("go1.25.9", False)],
)
def test_an_old_go_is_not_used(printed: str, *, enough: bool) -> None:
    assert toolchain.new_enough(printed) is enough


@pytest.mark.parametrize(
    ("check", "packages"), [(host.check, "containerd .*runc"), (host.check_for_images, "buildah .*mmdebstrap")]
)
def test_packages_that_cannot_be_installed_are_named(
    check: Callable[[Report], None], packages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ClusterError, match=packages):
        check(print)


def test_a_certificate_says_who_it_is_for_and_is_signed_by_the_authority(tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path)
    pair = authority.issue("kubelet", "system:node:n", ["system:nodes"], ["n", "10.0.0.1"])
    issued = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.read_bytes()))
    assert issued.subject.rfc4514_string() == "CN=system:node:n,O=system:nodes"
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert pair.key.stat().st_mode & 0o077 == 0
    ssl.create_default_context(cafile=str(authority.certificate)).load_cert_chain(pair.certificate, pair.key)


def test_a_kubeconfig_is_complete_in_itself_and_private(tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path)
    path = authority.kubeconfig(tmp_path / "kubeconfig", "https://10.0.0.1:6443", "one", authority.issue("a", "admin"))
    content = yaml.safe_load(path.read_text())
    assert content["current-context"] == "one"
    assert content["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443"
    assert set(content["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert path.stat().st_mode & 0o077 == 0


def test_an_archive_is_the_same_for_the_same_program_and_names_its_image(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    one, two = (
        oci.write_archive(tmp_path / file, "example.org/pause:1", program, ["/pause"], "amd64").read_bytes()
        for file in ("one.tar", "two.tar")
    )
    assert one == two
    (name, digest), *others = oci.images(tmp_path / "one.tar").items()
    assert (name, others) == ("example.org/pause:1", [])
    assert digest.startswith("sha256:")
    program.write_bytes(b"\x7fELF2")
    oci.write_archive(tmp_path / "two.tar", "example.org/pause:1", program, ["/pause"], "amd64")
    assert oci.images(tmp_path / "two.tar") != oci.images(tmp_path / "one.tar")


def test_cgroup_version_two_hands_every_controller_on(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    cgroups.make("pods", tmp_path)
    assert (tmp_path / "pods").is_dir()
    (tmp_path / "pods" / "kubepods").mkdir()
    cgroups.remove("pods", tmp_path)
    cgroups.remove("pods", tmp_path)
    assert not (tmp_path / "pods").exists()


@pytest.mark.parametrize("count", [0, 1, 7, 200, 1000])
def test_a_fleet_has_the_size_asked_for_and_unique_names(count: int) -> None:
    names = [each["metadata"]["name"] for each in gateways.fleet(count)]
    assert len(names) == len(set(names)) == count


def test_a_fleet_is_mixed_within_its_pools() -> None:
    fleet = gateways.fleet(200)
    assert Counter(each["metadata"]["labels"]["pool"] for each in fleet) == {"cuda": 40, "arm-edge": 80, "x86": 80}
    cards = Counter(each["metadata"]["labels"].get("nvidia.com/gpu.memory") for each in fleet)
    assert (cards["40960"], cards["16376"]) == (20, 20)
    avx512 = "feature.node.kubernetes.io/cpu-cpuid.AVX512F"
    x86 = [each for each in fleet if each["metadata"]["labels"]["pool"] == "x86"]
    assert 0 < sum(avx512 in each["metadata"]["labels"] for each in x86) < len(x86)


def test_a_gateway_says_the_same_about_itself_in_labels_and_status() -> None:
    for each in gateways.fleet(30):
        labels, status = each["metadata"]["labels"], each["status"]
        assert status["nodeInfo"]["architecture"] == labels["kubernetes.io/arch"]
        assert ("nvidia.com/gpu" in status["allocatable"]) == ("nvidia.com/gpu.memory" in labels)
        assert each["spec"]["taints"] == [gateways.TAINT]


def test_the_stages_are_what_kwok_reads() -> None:
    first, *stages = yaml.safe_load_all(gateways.STAGES.read_text())
    assert first["options"]["manageNodesWithLabelSelector"] == "type=kwok"
    assert [stage["metadata"]["name"] for stage in stages] == [
        "node-initialize",
        "pod-ready",
        "pod-ready-again",
        "pod-refuses",
        "pod-complete",
        "pod-delete",
    ]


def test_kind_gets_the_audit_policy_and_gives_the_log_to_the_host() -> None:
    folder = Folder("one")
    (own,) = yaml.safe_load(kind.configuration(folder))["nodes"]
    api_server = yaml.safe_load(own["kubeadmConfigPatches"][0])["apiServer"]
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in own["extraMounts"]}
    log = Path(api_server["extraArgs"]["audit-log-path"])
    assert Path(mounts[str(log.parent)]) / log.name == folder.audit_log
    assert str(Path(api_server["extraArgs"]["audit-policy-file"]).parent) in mounts


def test_the_kubelet_keeps_to_its_cgroup_and_pulls_nothing_down() -> None:
    configuration = node_configuration.kubelet_configuration("modelfleet-abcdef", Network(0))
    assert configuration["cgroupRoot"] == "/modelfleet-abcdef"
    assert configuration["imageGCHighThresholdPercent"] == 100
    assert configuration["clusterDNS"] == [Network(0).host]


def test_prometheus_scrapes_the_serving_pods_that_run() -> None:
    pod = {
        "metadata": {
            "name": "line-1",
            "namespace": "vision",
            "labels": {"modelfleet.dev/edge-deployment": "line", "modelfleet.dev/revision": "a1"},
        },
        "spec": {
            "containers": [{"ports": [{"name": "grpc", "containerPort": 9}, {"name": "http", "containerPort": 8}]}]
        },
        "status": {"phase": "Running", "podIP": "10.0.0.7"},
    }
    assert prometheus_targets.target(pod) == {
        "targets": ["10.0.0.7:8"],
        "labels": {"namespace": "vision", "name": "line", "revision": "a1", "pod": "line-1"},
    }
    assert prometheus_targets.target(pod | {"status": {"phase": "Pending"}}) is None
    assert prometheus_targets.target(pod | {"status": {"phase": "Succeeded", "podIP": "10.0.0.7"}}) is None
    assert prometheus_targets.target(pod | {"spec": {"containers": [{}]}}) is None
