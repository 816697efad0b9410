"""What the chart renders: accepted by a real API server without a warning, and bad values refused with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.helm import CHART, NAMESPACE, Helm, HelmError
from e2e.kubectl import Kubectl
from modelfleet import settings

EVERYTHING_ON: dict[str, Any] = {
    "operator": {
        "image": {"tag": "1.2.3", "digest": "sha256:" + "0" * 64},
        "logFormat": "plain",
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "vision"},
        "podAnnotations": {"plant.example/note": "yes"},
    },
    "imagePullSecrets": ["registry"],
    "runtime": {"imagePullSecrets": ["plant-registry"]},
    "nodePools": {
        "cuda": {
            "nodeSelector": {"gpu": "true"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "backend": "nccl",
            "env": {"NCCL_SOCKET_IFNAME": "eth0"},
        }
    },
    "verification": {
        "everyHours": 24,
        "signatures": {
            "policy": "Require",
            "publicKeys": [{"name": "release", "key": "-----BEGIN PUBLIC KEY-----\nabc", "namespaces": ["vision"]}],
        },
    },
    "admission": {
        "nodeLabels": {"exemptUsers": ["restore@plant.example"], "exemptGroups": []},
        "fleets": {"vision": [{"plant.example/line": "a"}, {}]},
    },
    "analysis": {"prometheusAddresses": ["http://prometheus.monitoring:9090", "https://metrics.plant.example/tenant"]},
    "traffic": {"probeAddresses": ["http://ingress.istio-system:8081"]},
    "networkPolicy": {"enabled": True},
}


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [obj for obj in objects if obj["kind"] == kind]


@pytest.fixture
def everything_on(tmp_path: Path) -> str:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(EVERYTHING_ON))
    return f"--values={path}"


def test_lint(chart_helm: Helm, everything_on: str) -> None:
    chart_helm("lint", str(CHART), "--strict")
    chart_helm("lint", str(CHART), "--strict", everything_on)


@pytest.mark.parametrize("everything", [False, True], ids=["defaults", "everything on"])
def test_the_api_server_takes_it_without_a_warning(
    chart_helm: Helm, chart_kubectl: Kubectl, everything_on: str, everything: bool
) -> None:
    words = [everything_on] if everything else []
    objects = chart_helm.template(*words)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    command = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    chart_kubectl.within(NAMESPACE)(*command, "--warnings-as-errors", stdin=text)


def test_the_operators_pod_is_restricted(chart_helm: Helm, chart_kubectl: Kubectl) -> None:
    """It passes Pod Security Standard *restricted*, enforced by the API server."""
    namespace = {"name": "restricted", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    chart_kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    within = chart_kubectl.within("restricted")
    within.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "modelfleet"}})
    template = of_kind(chart_helm.template(), "Deployment")[0]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"]["name"] = "operator"
    within("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    refusal = within("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
    assert "violates PodSecurity" in refusal


def test_images(chart_helm: Helm) -> None:
    digest = "sha256:" + "ab" * 32
    objects = chart_helm.template(
        "--set", f"operator.image.digest={digest},runtime.image.repository=registry.plant.example:5000/mf/runtime"
    )
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    pod = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"modelfleet/operator:{version}@{digest}"
    config = yaml.safe_load(of_kind(objects, "ConfigMap")[0]["data"]["config.yaml"])
    assert config["runtimeImage"] == f"registry.plant.example:5000/mf/runtime:{version}"


def test_the_operator_reads_its_configuration(
    chart_helm: Helm, everything_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that is mounted passes the operator's own check, and every value arrives in it."""
    monkeypatch.setenv(settings.ADDRESS_ENV, "10.1.2.3")

    def loaded(*words: str) -> settings.Settings:
        path = tmp_path / "config.yaml"
        path.write_text(of_kind(chart_helm.template(*words), "ConfigMap")[0]["data"]["config.yaml"])
        return settings.load(str(path))

    default = loaded()
    assert default.installation_name == f"{NAMESPACE}/modelfleet"
    assert default.namespace == NAMESPACE
    assert default.lease.name == "modelfleet"
    # What the chart's defaults say is what the operator's own are.
    fixed = {"installation_name", "namespace", "runtime_image", "log_format", "progress"}
    own = settings.Settings(installation_name="x", namespace="x", runtime_image="x")
    assert default.model_dump(exclude=fixed) == own.model_dump(exclude=fixed)
    by = default.progress
    assert (by.service, by.secret, by.address) == ("modelfleet-progress", "modelfleet-progress", "10.1.2.3")
    assert loaded("--set=progress.enabled=false").progress.service == ""

    full = loaded(
        everything_on, "--set", "operator.workers=9,operator.lease.durationSeconds=30,operator.auditSeconds=60"
    )
    assert full.node_pools["cuda"].node_selector == {"gpu": "true"}
    assert (full.node_pools["cuda"].backend, full.node_pools["cuda"].env) == ("nccl", {"NCCL_SOCKET_IFNAME": "eth0"})
    assert full.node_pools["cuda"].tolerations == [{"key": "gpu", "operator": "Exists"}]
    assert full.installation().image_pull_secrets == ("plant-registry",)
    assert full.installation().probe_addresses == tuple(EVERYTHING_ON["traffic"]["probeAddresses"])
    assert full.installation().prometheus_addresses == tuple(EVERYTHING_ON["analysis"]["prometheusAddresses"])
    assert (full.workers, full.lease.duration_seconds, full.audit_seconds) == (9, 30, 60)
    assert full.log_format == "plain"


def test_a_changed_configuration_starts_new_pods(chart_helm: Helm, everything_on: str) -> None:
    before, after = (
        of_kind(each, "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]["modelfleet.dev/config-hash"]
        for each in (chart_helm.template(), chart_helm.template(everything_on))
    )
    assert before != after


def test_what_can_be_left_out(chart_helm: Helm) -> None:
    off = "crds.install=false,rbac.userRoles=false,admission.enabled=false,operator.replicas=1"
    kinds = {obj["kind"] for obj in chart_helm.template("--set", off)}
    assert not kinds & {"CustomResourceDefinition", "ValidatingAdmissionPolicy", "PodDisruptionBudget"}
    assert len(of_kind(chart_helm.template("--set", off), "ClusterRole")) == 1


def test_rights_on_routes_can_be_left_out(chart_helm: Helm) -> None:
    def groups(*words: str) -> set[str]:
        roles = of_kind(chart_helm.template(*words), "ClusterRole")
        rules = [rule for role in roles if role["metadata"]["name"] == "modelfleet" for rule in role["rules"]]
        return {group for rule in rules for group in rule["apiGroups"]}

    istio, gateway = {"networking.istio.io", "security.istio.io"}, {"gateway.networking.k8s.io"}
    assert istio | gateway <= groups()
    assert groups() - groups("--set=traffic.istio.enabled=false") == istio
    assert groups() - groups("--set=traffic.gatewayAPI.enabled=false") == gateway


def test_the_network_policy_lets_out_to_prometheus(chart_helm: Helm, everything_on: str) -> None:
    def ports(*words: str) -> list[int]:
        policy = of_kind(chart_helm.template("--set", "networkPolicy.enabled=true", *words), "NetworkPolicy")[0]
        return [each["port"] for each in policy["spec"]["egress"][0]["ports"]]

    assert ports() == [53, 53, 443, 6443]
    assert ports(everything_on) == [53, 53, 443, 6443, 9090, 443, 8081]


def test_progress_can_be_left_out(chart_helm: Helm) -> None:
    on, off = (
        chart_helm.template("--set=networkPolicy.enabled=true"),
        "networkPolicy.enabled=true,progress.enabled=false",
    )
    without = chart_helm.template("--set", off)
    assert "modelfleet-progress" in json.dumps(on)
    for word in ("modelfleet-progress", "8443", "tokenreviews", "MODELFLEET_POD_IP"):
        assert word in json.dumps(on)
        assert word not in json.dumps(without)
    (service,) = (obj for obj in of_kind(on, "Service") if obj["metadata"]["name"] == "modelfleet-progress")
    assert "selector" not in service["spec"], "Kubernetes would have all replicas behind it"
    (secret,) = of_kind(on, "Secret")
    assert "data" not in secret, "an upgrade would write over the key"


def test_a_service_monitor_selects_the_metrics_service(chart_helm: Helm) -> None:
    words = ("--set", "metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.release=prometheus")
    objects = chart_helm.template(*words)
    (monitor,) = of_kind(objects, "ServiceMonitor")
    (service,) = (obj for obj in of_kind(objects, "Service") if obj["metadata"]["name"] == "modelfleet-metrics")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("operator.replicas=0", "/operator/replicas"),
        ("operator.replica=2", "'replica' not allowed"),
        ("operators.replicas=2", "'operators' not allowed"),
        ("operator.image.digest=sha256:12", "/operator/image/digest"),
        ("runtime.image.repository=Runtime:1", "/runtime/image/repository"),
        ("operator.logLevel=loud", "/operator/logLevel"),
        ("operator.resyncSeconds=1", "/operator/resyncSeconds"),
        ("crds.install=perhaps", "/crds/install"),
        ("nodePools.CUDA.nodeSelector.a=b", "CUDA"),
        ("nodePools.cuda.backend=mpi", "backend"),
        ("channels[0].branch=main,channels[0].channel=prod", "channel"),
        ("nodePools.cuda.selector.a=b", "'selector' not allowed"),
        ("metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval"),
        ("analysis.prometheusAddresses[0]=prometheus:9090", "/analysis/prometheusAddresses/0"),
        ("analysis.prometheusAddresses[0]=http://me:secret@p", "/analysis/prometheusAddresses/0"),
        ("progress.enabled=maybe", "/progress/enabled"),
        ("traffic.probeAddresses[0]=ingress", "/traffic/probeAddresses/0"),
        ("networkPolicy.apiServerPorts[0]=70000", "/networkPolicy/apiServerPorts/0"),
    ],
)
def test_bad_values_are_refused(chart_helm: Helm, value: str, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        chart_helm.template("--set", value)
