"""The configuration of a real node's parts, as plain values; ``node`` writes it and starts them."""

from pathlib import Path
from typing import Any

from e2e.cluster import host
from e2e.cluster.network import Network

PAUSE_IMAGE = "modelfleet.dev/pause:1"
"""The image of pod sandboxes; imported before the first pod, for it is nowhere to be pulled."""

CONFIGURATION = Path("/run/modelfleet")
"""Where containerd and the kubelet see their configuration: in the node's own ``/run``."""


def kubelet_configuration(cgroup: str, addresses: Network) -> dict[str, Any]:
    """The kubelet's configuration, as it lies in ``kubelet.yaml``."""
    seen = CONFIGURATION
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(seen / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(seen / "kubelet.crt"),
        "tlsPrivateKeyFile": str(seen / "kubelet.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "clusterDNS": [addresses.host],
        "clusterDomain": "cluster.local",
        "resolvConf": str(seen / "resolv.conf"),
        # A developer's disk is often nearly full, and nothing here could be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "serializeImagePulls": False,
        "registerNode": True,
    }


def containerd_configuration() -> str:
    """What lies in ``containerd.toml``."""
    plugins = host.network_plugins()
    return f"""\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no process may lower its score, and runc would die of it.
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{CONFIGURATION}/net.d"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def pod_network(addresses: Network) -> dict[str, Any]:
    """Each pod on a link of its own: all traffic is routed, so kube-proxy sees it without bridge filtering."""
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": addresses.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def proxy_configuration(addresses: Network, kubeconfig: Path) -> dict[str, Any]:
    """What lies in ``kube-proxy.yaml``."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": addresses.pods,
        "nodePortAddresses": ["primary"],
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The connection table's size is the host's and stays as it is.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    }
