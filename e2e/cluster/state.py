"""What a cluster consists of, as written down while it is made: ``state.json`` in its folder.

Each process is noted the moment it was started, so that a half-made cluster can be taken down as well as a whole one.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from e2e.cluster.folders import CLUSTERS, Folder

Kind = Literal["local", "kind", "existing"]


class ProcessRecord(BaseModel):
    """A process that was started. A pid alone may long belong to somebody else; with the start time it cannot."""

    model_config = ConfigDict(extra="forbid")

    pid: int
    started: int
    """Clock ticks between boot and start: field 22 of ``/proc/<pid>/stat``."""
    boot: str
    """The kernel's boot id: after a reboot no record is alive."""


class State(BaseModel):
    """What ``state.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    index: int = 0
    """Which of the host's address ranges the cluster claimed, see ``network``; for kind ``local`` only."""
    store_address: str = ""
    """The address the object store listens on, reachable from pods."""
    access_key: str
    secret_key: str
    made_gateways: bool = False
    """Whether simulated gateways were ever added: what ``down`` takes off a cluster that is not ours."""
    kubeconfig: str = ""
    """The user's own kubeconfig; for kind ``existing`` only."""
    processes: dict[str, ProcessRecord] = {}


def load(folder: Folder) -> State | None:
    """The state, or ``None`` when there is no cluster of that name, or none that got as far as writing one."""
    try:
        return State.model_validate_json(folder.state.read_text())
    except FileNotFoundError:
        return None


def save(folder: Folder, state: State) -> None:
    """Write the state whole or not at all; readable by its owner only, for it holds the store's key."""
    folder.root.mkdir(parents=True, exist_ok=True)
    draft = folder.state.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(state.model_dump(), indent=1) + "\n")
    draft.replace(folder.state)


@contextmanager
def changing(folder: Folder) -> Iterator[State]:
    """The state to change, alone; saved at the end also when the body failed half-way."""
    with locked(folder.root / ".state.lock"):
        state = load(folder)
        if state is None:
            raise FileNotFoundError(f"there is no cluster {folder.name!r}")
        try:
            yield state
        finally:
            save(folder, state)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, which the holder may remove. The kernel lets go when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(path)
    while not _is_at(path, descriptor):  # its holder removed the file while we waited for the lock
        os.close(descriptor)
        descriptor = _lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def names() -> list[str]:
    """The names of all clusters that have a state."""
    return sorted(path.parent.name for path in CLUSTERS.glob("*/state.json"))
