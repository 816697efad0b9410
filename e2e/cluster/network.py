"""The addresses of a local cluster, and the network namespace of its real node.

Each cluster claims one 10.160+i.0.0/16 that no route of the host touches yet. The node lives in a network namespace of
its own, joined to the host by a pair of links: the bridge-less pod routes, kube-proxy's rules and every listener of the
node vanish with the namespace, and the host's own rules are never touched. The host reaches pods and Services through
that link, pods reach the host's processes at its host end; there is no way from a pod to the outside.
"""

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.commands import ClusterError, run, succeeds
from e2e.cluster.folders import Folder

RANGES = 32
"""How many local clusters fit on one host."""


@dataclass(frozen=True)
class Network:
    """The addresses of the cluster with this index, 0 ≤ index < RANGES."""

    index: int

    @property
    def range(self) -> ipaddress.IPv4Network:
        """All addresses of the cluster."""
        return ipaddress.IPv4Network(f"10.{160 + self.index}.0.0/16")

    @property
    def pods(self) -> str:
        """The pods of the real node."""
        return f"10.{160 + self.index}.0.0/17"

    @property
    def simulated_pods(self) -> str:
        """The made-up addresses of pods on simulated gateways; no packet ever goes there."""
        return f"10.{160 + self.index}.192.0/19"

    @property
    def services(self) -> str:
        """The cluster IPs of Services."""
        return f"10.{160 + self.index}.128.0/18"

    @property
    def api_service(self) -> str:
        """The cluster IP of the Service ``kubernetes``."""
        return f"10.{160 + self.index}.128.1"

    @property
    def host(self) -> str:
        """The host's end of the link: where the API server, the DNS and the store listen."""
        return f"10.{160 + self.index}.255.1"

    @property
    def node(self) -> str:
        """The node's end of the link."""
        return f"10.{160 + self.index}.255.2"

    @property
    def loopback(self) -> str:
        """A loopback address of the cluster's own, for what pods shall not reach."""
        return f"127.{160 + self.index}.0.1"

    @property
    def api_url(self) -> str:
        """Where the API server answers, from the host and from pods."""
        return f"https://{self.host}:6443"


def free_index(taken: set[int]) -> int:
    """The first index that no other cluster took and whose range no route of the host touches."""
    routes = [
        ipaddress.IPv4Network(route["dst"], strict=False)
        for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
        if route["dst"] != "default"
    ]
    for index in range(RANGES):
        claimed = Network(index).range
        # A whole company routes 10.0.0.0/8 somewhere; only a more exact route says that a range is in use.
        if index not in taken and not any(claimed.overlaps(route) for route in routes if route.prefixlen > 8):
            return index
    raise ClusterError(f"none of the {RANGES} ranges from 10.160.0.0/16 on is free: take a cluster down first")


def make(folder: Folder, network: Network) -> None:
    """Make the namespace, the link and the routes."""
    namespace, host_end, node_end = folder.network_namespace, f"mf-{folder.token}-h", f"mf-{folder.token}-n"
    inside = ("ip", "-n", namespace)
    run("ip", "netns", "add", namespace)
    run("ip", "link", "add", host_end, "type", "veth", "peer", "name", node_end, "netns", namespace)
    run("ip", "address", "add", f"{network.host}/30", "dev", host_end)
    run("ip", "link", "set", host_end, "up")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{network.node}/30", "dev", node_end)
    run(*inside, "link", "set", node_end, "up")
    run(*inside, "route", "add", "default", "via", network.host)
    run("ip", "route", "add", network.pods, "via", network.node, "dev", host_end)
    run("ip", "route", "add", network.services, "via", network.node, "dev", host_end)
    # Written from inside: these switches belong to the namespace that the writer is in.
    switches = Path("/proc/sys/net/ipv4")
    run(*enter(folder), "sh", "-c", 'echo 1 > "$1"', "sh", str(switches / "ip_forward"))


def remove(folder: Folder) -> None:
    """Remove what ``make`` made, as far as it is there."""
    succeeds("ip", "link", "delete", f"mf-{folder.token}-h")
    if folder.network_namespace in namespaces():
        run("ip", "netns", "delete", folder.network_namespace)


def namespaces() -> set[str]:
    """The named network namespaces of the host."""
    return {line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()}


def enter(folder: Folder) -> tuple[str, ...]:
    """What to put before a command so that it runs in the node's network.

    Not ``ip netns exec``: that mounts a new /sys, in which a kubelet finds no cgroups.
    """
    return ("nsenter", f"--net=/run/netns/{folder.network_namespace}", "--")
