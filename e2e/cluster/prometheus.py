"""A real Prometheus beside a local cluster, which scrapes every serving pod.

It runs on the host, where pods and the operator reach it, and ends with the cluster. Debian's build cannot ask an API
server, so ``prometheus_targets`` does that and writes the pods down for it, with the labels that a user's own would
have by the configuration in ``docs/operations.md``.
"""

import json
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster import host, state
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import ClusterError, Report, run, wait_until
from e2e.cluster.folders import CACHE
from e2e.cluster.network import Network
from e2e.cluster.processes import Processes

PART = "prometheus"
_TARGETS_PART = "prometheus-targets"
_TARGETS_SCRIPT = Path(__file__).with_name("prometheus_targets.py")
_PORT = 9090
_SCRAPE_SECONDS = 1


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The series that an instant query finds now: labels and value of each."""
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 (a fixed scheme)
            result = json.load(answer)["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]


def address(cluster: Cluster) -> str:
    """The URL it has, or would have, in this cluster; empty where there can be none."""
    now = state.load(cluster.folder)
    return f"http://{Network(now.index).host}:{_PORT}" if now and cluster.kind == "local" else ""


def start(cluster: Cluster, report: Report) -> Prometheus:
    """Bring it up, or take it as it is; returns when it answers queries. Raises ``ClusterError``."""
    found, processes = Prometheus(address(cluster)), Processes(cluster.folder)
    if not found.url:
        raise ClusterError("Prometheus needs the local cluster: it scrapes pods at their addresses")
    if not processes.alive(PART):
        configuration = cluster.folder.configuration / "prometheus.yaml"
        targets = cluster.folder.configuration / "prometheus-targets.json"
        configuration.write_text(yaml.safe_dump(_configuration(targets), sort_keys=False))
        processes.start(
            _TARGETS_PART,
            [sys.executable, _TARGETS_SCRIPT, cluster.kubectl.program, cluster.kubeconfig, targets],
        )
        processes.start(
            PART,
            [
                _program(report),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={cluster.folder.root / 'prometheus'}",
                f"--web.listen-address={found.url.removeprefix('http://')}",
                "--log.level=warn",
            ],
        )
    wait_until(
        lambda: _is_ready(found.url), "Prometheus to be ready", 60, lambda: processes.expect(PART, _TARGETS_PART)
    )
    report(f"Prometheus: answers at {found.url}")
    return found


def _program(report: Report) -> Path:
    """Prometheus of the PATH, or the one of Debian's package, unpacked and not installed: it would start a service."""
    if found := shutil.which("prometheus"):
        return Path(found)
    target = CACHE / "debian" / "prometheus"
    with state.locked(CACHE / "debian" / ".prometheus.lock"):
        if not target.exists():
            report("Prometheus: downloading Debian's package")
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                run("dpkg-deb", "--extract", host.download("prometheus", Path(folder)), Path(folder) / "root")
                (Path(folder) / "root" / "usr" / "bin" / "prometheus").replace(target)
    return target


def _configuration(targets: Path) -> dict[str, object]:
    every = f"{_SCRAPE_SECONDS}s"
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "scrape_configs": [
            {
                "job_name": "modelfleet-serving",
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": every}],
            }
        ],
    }


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:  # noqa: S310 (a fixed scheme)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
