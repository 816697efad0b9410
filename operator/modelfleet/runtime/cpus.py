"""How many CPUs this container may use: a thread for each CPU of a big node would only fight over a small limit."""

import math
import os
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")


def available(root: Path = CGROUPS) -> int:
    """Return the CPU limit of the container, rounded up, or the CPUs of the node where that is less; at least 1."""
    node = len(os.sched_getaffinity(0))
    limit = _limit(root)
    return max(1, node if limit is None else min(node, math.ceil(limit)))


def _limit(root: Path) -> float | None:
    """Return the quota in CPUs, from cgroup v2 or v1; ``None`` where there is no limit."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
