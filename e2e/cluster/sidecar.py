"""What Istio's control plane tells the sidecar of a pod: an Envoy joins in its name, and shows what it was sent.

No request goes through it, and without certificates its listeners stay in preparation: it tells what the control plane
makes of policies, not what becomes of connections.
"""

import copy
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from e2e.cluster import mesh, network
from e2e.cluster.commands import wait_until
from e2e.cluster.mesh import Mesh
from e2e.cluster.processes import Processes

RawObject = dict[str, Any]

_PART: Final = "sidecar"
_ADMIN_PORT: Final = 15055
_CERTIFICATES: Final = "sds-grpc"
"""What the control plane calls the cluster that hands out certificates; Istio's agent is behind it, and nobody here."""


@dataclass(frozen=True)
class Sidecar:
    """An Envoy in the name of a pod."""

    url: str

    def takes(self, port: int) -> set[str]:
        """How others may connect to a port of the pod: ``mtls`` with a certificate of the mesh, ``open`` without.

        Raises ``ValueError`` where Envoy refused what it was sent.
        """
        chains = [each for each in self._inbound()["filter_chains"] if each.get("filter_chain_match")]
        matches = [each["filter_chain_match"] for each in chains]
        # The most special match counts alone: chains for the port, or where there is none those for any port.
        wanted = port if any(each.get("destination_port") == port for each in matches) else None
        return {_kind(each) for each in chains if each["filter_chain_match"].get("destination_port") == wanted}

    def told(self) -> bool:
        """Whether it has been sent what comes in."""
        try:
            return bool(self._listeners())
        except (OSError, ValueError):
            return False

    def _inbound(self) -> RawObject:
        (found,) = self._listeners()
        if found.get("error_state"):
            raise ValueError(f"Envoy refuses it: {found['error_state'].get('details')}")
        listener: RawObject = (found.get("warming_state") or found["active_state"])["listener"]
        return listener

    def _listeners(self) -> list[RawObject]:
        query = urllib.parse.urlencode({"resource": "dynamic_listeners", "name_regex": "^virtualInbound$"})
        with urllib.request.urlopen(f"{self.url}/config_dump?{query}", timeout=10) as answer:  # noqa: S310 (a fixed scheme)
            found: list[RawObject] = json.load(answer).get("configs", [])
        return found


@contextmanager
def of(data_plane: Mesh, pod: RawObject) -> Iterator[Sidecar]:
    """Join in the name of this pod, for as long as the body runs. Raises ``ClusterError``."""
    metadata, processes = pod["metadata"], Processes(data_plane.folder)
    node = mesh.proxy(
        "sidecar", pod["status"]["podIP"], metadata["name"], metadata["namespace"], metadata.get("labels") or {}
    )
    configuration = mesh.configuration(data_plane.network, node, _ADMIN_PORT)
    clusters = configuration["static_resources"]["clusters"]
    nobody = copy.deepcopy(clusters[0]) | {"name": _CERTIFICATES}
    nobody["load_assignment"] = {"cluster_name": _CERTIFICATES, "endpoints": []}
    clusters.append(nobody)
    bootstrap = data_plane.folder.configuration / "sidecar.json"
    bootstrap.write_text(json.dumps(configuration, indent=1))
    processes.start(_PART, [*network.enter(data_plane.folder), *mesh.command(bootstrap)])
    try:
        found = Sidecar(f"http://{data_plane.network.node}:{_ADMIN_PORT}")
        wait_until(found.told, "the sidecar to be sent its listeners", 60, lambda: processes.expect(_PART))
        yield found
    finally:
        processes.stop(_PART)


def _kind(chain: RawObject) -> str:
    socket = (chain.get("transport_socket") or {}).get("typed_config") or {}
    return "mtls" if socket.get("require_client_certificate") else "open"
