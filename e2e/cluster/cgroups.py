"""The cgroup that holds all pods of a real node, in version 1 and version 2."""

from pathlib import Path

from e2e.cluster import processes
from e2e.cluster.commands import ClusterError, wait_until

ROOT = Path("/sys/fs/cgroup")


def is_unified(root: Path = ROOT) -> bool:
    """Whether the host has cgroup version 2 alone."""
    return (root / "cgroup.controllers").exists()


def make(name: str, root: Path = ROOT) -> None:
    """Make the cgroup in every hierarchy, ready for a kubelet to make its own below."""
    if is_unified(root):
        for controller in (root / "cgroup.controllers").read_text().split():
            try:
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError as error:
                raise ClusterError(
                    f"cannot hand the cgroup controller {controller!r} on to pods: {error}. "
                    "In a container, run it with a private cgroup namespace whose root holds no process."
                ) from error
        (root / name).mkdir(exist_ok=True)
        return
    for hierarchy in _hierarchies(root):
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        if (hierarchy / "cpuset.cpus").exists():
            # A new cpuset is empty, and nothing can run in an empty one.
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((hierarchy / file).read_text())


def pids(name: str, root: Path = ROOT) -> list[int]:
    """Every process in the cgroup or below it, in any hierarchy."""
    found: set[int] = set()
    for folder in _folders(name, root):
        for file in folder.rglob("cgroup.procs"):
            found.update(int(line) for line in file.read_text().split())
    return sorted(found - {0})


def remove(name: str, root: Path = ROOT) -> None:
    """End what still runs in the cgroup and remove it."""
    processes.kill(pids(name, root))
    for top in _folders(name, root):
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            _remove_empty(folder)
        _remove_empty(top)


def _remove_empty(folder: Path) -> None:
    """Remove a cgroup; the kernel may need a moment to notice that its last process has ended."""

    def removed() -> bool:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    wait_until(removed, f"the cgroup {folder} to become empty", 10)


def _folders(name: str, root: Path) -> list[Path]:
    candidates = [root / name, *(hierarchy / name for hierarchy in _hierarchies(root))]
    return [folder for folder in candidates if folder.is_dir()]


def _hierarchies(root: Path) -> list[Path]:
    """The mounted hierarchies of version 1, each once (``cpu`` may be a link to ``cpu,cpuacct``)."""
    return sorted({path.resolve() for path in root.iterdir() if (path / "cgroup.procs").exists() and path.is_mount()})
