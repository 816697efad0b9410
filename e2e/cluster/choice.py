"""Which cluster to take: the one KUBECONFIG names, else kind where Docker answers, else the local one."""

from typing import Literal

from e2e.cluster import existing, kind, local, state
from e2e.cluster.cluster import Cluster
from e2e.cluster.commands import ClusterError, Report, timed_lines
from e2e.cluster.folders import DEFAULT_NAME, Folder

Wish = Literal["auto", "own", "existing", "kind", "local"]
"""What may be asked for; ``own``: kind or local, never the one that KUBECONFIG happens to name."""


def pick(name: str, wish: Wish) -> state.Kind:
    """The kind of cluster that a name has, or that it will get. Raises ``ClusterError`` when it has another one."""
    now = state.load(Folder(name))
    if now is not None:
        if wish not in ("auto", now.kind) and (wish != "own" or now.kind == "existing"):
            raise ClusterError(
                f"cluster {name!r} is of kind {now.kind!r}, not {wish!r}: take it down first, or choose another name"
            )
        return now.kind
    match wish:
        case "existing" | "kind" | "local":
            return wish
        case "auto" if existing.is_available():
            return "existing"
        case _:
            return "kind" if kind.is_available() else "local"


def up(name: str = DEFAULT_NAME, gateways: int = 0, wish: Wish = "auto", report: Report | None = None) -> Cluster:
    """Bring a cluster up, or take the one of that name as it is."""
    say = report or timed_lines()
    match pick(name, wish):
        case "existing":
            return existing.up(name, gateways, say)
        case "kind":
            return kind.up(name, gateways, say)
        case "local":
            return local.up(name, gateways, say)


def down(name: str = DEFAULT_NAME, report: Report | None = None) -> None:
    """Remove a cluster, or what we put on it when it is not ours. No error when there is none."""
    say, now = report or timed_lines(), state.load(Folder(name))
    match now.kind if now else "local":
        case "existing":
            existing.down(name, say)
        case "kind":
            kind.down(name, say)
        case "local":
            local.down(name, say)


def connect(name: str = DEFAULT_NAME) -> Cluster:
    """The cluster that ``up`` brought up under this name. Raises ``ClusterError`` when there is none."""
    now = state.load(Folder(name))
    match now.kind if now else "local":
        case "existing":
            return existing.connect(name)
        case "kind":
            return kind.connect(name)
        case "local":
            return local.connect(name)


def is_whole(name: str = DEFAULT_NAME) -> bool:
    """Whether the cluster of that name works."""
    folder = Folder(name)
    now = state.load(folder)
    match now.kind if now else "local":
        case "existing":
            return existing.is_whole(folder)
        case "kind":
            return kind.is_whole(folder)
        case "local":
            return local.is_whole(folder)
