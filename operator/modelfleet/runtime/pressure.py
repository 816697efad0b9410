"""How much of the node a training runs on is in use, as a pod itself can read it: no metrics server is asked.

``/proc/stat`` and ``/proc/meminfo`` are the node's in a container, too (under gVisor or Kata they are the sandbox's);
what the pod may use of the memory is in its cgroup (version 2). What cannot be read is not told.
"""

from pathlib import Path
from typing import Final

from modelfleet.api.wire import CPU_METRIC, MEMORY_METRIC

PROC: Final = Path("/proc")
CGROUP: Final = Path("/sys/fs/cgroup")

_IDLE: Final = (3, 4)
"""Fields of the line ``cpu`` in ``/proc/stat``: idle and iowait (proc_stat(5))."""
_GUEST: Final = 8
"""From here on time is counted in earlier fields already."""


class Pressure:
    """Reads the shares in use; of CPU time, that since the last reading."""

    def __init__(self, proc: Path = PROC, cgroup: Path = CGROUP) -> None:
        self._proc = proc
        self._cgroup = cgroup
        self._last = self._cpu_times()

    def metrics(self) -> dict[str, str]:
        """The shares in use, from 0 to 1, by the names that the operator knows them by."""
        shares = {CPU_METRIC: self._cpu(), MEMORY_METRIC: self._memory()}
        return {name: f"{share:.3f}" for name, share in shares.items() if share is not None}

    def _cpu(self) -> float | None:
        last, now = self._last, self._cpu_times()
        self._last = now
        if last is None or now is None or now[1] <= last[1]:
            return None
        return (now[0] - last[0]) / (now[1] - last[1])

    def _cpu_times(self) -> tuple[int, int] | None:
        """Time in use and all time of all CPUs, in ticks since the node started."""
        try:
            fields = [int(each) for each in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:]][:_GUEST]
            return sum(fields) - sum(fields[index] for index in _IDLE), sum(fields)
        except (OSError, ValueError, IndexError):
            return None

    def _memory(self) -> float | None:
        """The greater share: of the node's memory, or of the pod's own limit."""
        return max((share for share in (self._node_memory(), self._own_memory()) if share is not None), default=None)

    def _node_memory(self) -> float | None:
        try:
            lines = [line.split() for line in (self._proc / "meminfo").read_text().splitlines()]
            sizes = {line[0]: int(line[1]) for line in lines if len(line) > 1}
            return 1 - sizes["MemAvailable:"] / sizes["MemTotal:"]
        except (OSError, ValueError, KeyError, ZeroDivisionError):
            return None

    def _own_memory(self) -> float | None:
        """As the kubelet counts it (working set): without the page cache that would be given up first."""
        try:
            limit = int((self._cgroup / "memory.max").read_text())
            used = int((self._cgroup / "memory.current").read_text())
            cached = [
                line.split()[1]
                for line in (self._cgroup / "memory.stat").read_text().splitlines()
                if line.startswith("inactive_file ")
            ]
            return max(used - int(cached[0]), 0) / limit
        except (OSError, ValueError, IndexError, ZeroDivisionError):
            return None
