"""A controller whose costs are measured, and what the kernel tells of its process: CPU time and memory.

How it is started, and where it runs, is for its kinds to say: ``operator_pod.py``, ``host_process.py``.
"""

import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.cluster import Cluster

SETTLING_SECONDS = 15


@dataclass(frozen=True)
class Controller(ABC):
    """One process on this machine, which works for a cluster under a service account."""

    cluster: Cluster
    user: str
    """Who it is to the API server."""

    @abstractmethod
    def start(self) -> None:
        """Start it."""

    @abstractmethod
    def stop(self) -> None:
        """End it, politely."""

    @abstractmethod
    def expect(self) -> None:
        """Raise ``ClusterError`` with the end of its log when it has ended."""

    @abstractmethod
    def pid(self) -> int:
        """Its process; raises ``ClusterError`` when it has ended."""

    def warm_up(self) -> None:
        """Start it and let it read what there is, so that this counts as nothing else's cost."""
        self.start()
        time.sleep(SETTLING_SECONDS)
        self.expect()

    def cpu_seconds(self) -> float:
        """User and system time since it started."""
        stat = Path(f"/proc/{self.pid()}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """Its largest resident memory so far."""
        lines = Path(f"/proc/{self.pid()}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
