"""The host processes of a cluster: started apart from the caller, noted in the state, ended exactly.

A process is ended through a pidfd that was compared first with its start time or with the mark in its environment:
never by name, never somebody else's.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from e2e.cluster import state
from e2e.cluster.commands import ClusterError, wait_until
from e2e.cluster.folders import Folder

# In the environment of every process of a cluster, and of those that these start in turn.
_MARK = "MODELFLEET_CLUSTER_TOKEN"

_children: list["subprocess.Popen[bytes]"] = []


class Processes:
    """The processes of one cluster, by the name of their part ("etcd", "kubelet", …)."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def start(self, part: str, words: Iterable[str | Path], environment: Mapping[str, str] | None = None) -> int:
        """Start a part that outlives the caller; what it prints goes to its log. Returns its pid."""
        line = [str(word) for word in words]
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        with self.log(part).open("ab") as log, state.changing(self.folder) as now:
            child = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {}), _MARK: self.folder.token},
                cwd="/",
                start_new_session=True,
            )
            _children.append(child)  # so that it is neither waited for nor warned about
            now.processes[part] = state.ProcessRecord(pid=child.pid, started=_started(child.pid) or 0, boot=_boot())
        return child.pid

    def parts(self) -> dict[str, bool]:
        """Every part that was started, and whether it is alive."""
        now = state.load(self.folder)
        return {part: _alive(record) for part, record in now.processes.items()} if now else {}

    def pid(self, part: str) -> int:
        """The pid of a part that is alive; raises ``ClusterError`` when it is not."""
        now = state.load(self.folder)
        record = now.processes.get(part) if now else None
        if record is None or not _alive(record):
            raise ClusterError(f"{part} of cluster {self.folder.name!r} does not run; its log is {self.log(part)}")
        return record.pid

    def alive(self, part: str) -> bool:
        """Whether a part was started and runs."""
        return self.parts().get(part, False)

    def stop(self, part: str, grace: float = 10.0) -> None:
        """End a part: asked first, after ``grace`` seconds made to. Stopping what does not run is no error."""
        with state.changing(self.folder) as now:
            record = now.processes.pop(part, None)
        if record is not None and not _end(record, signal.SIGTERM, grace):
            _end(record, signal.SIGKILL, 10.0)

    def kill_all(self) -> None:
        """End every part and whatever the parts started, at once and without asking; needs no record of them."""
        mark = f"{_MARK}={self.folder.token}".encode()

        def left() -> list[int]:
            return [pid for pid in _pids() if _kill_if(pid, lambda pid: mark in _environment(pid))]

        wait_until(lambda: not left(), f"the processes of cluster {self.folder.name} to end", 20)

    def log(self, part: str) -> Path:
        """The log of a part."""
        return self.folder.logs / f"{part}.log"

    def expect(self, *parts: str) -> None:
        """Raise ``ClusterError`` with the end of its log when one of these parts has ended."""
        alive = self.parts()
        for part in parts:
            if alive.get(part, False):
                continue
            text = self.log(part).read_text(errors="replace") if self.log(part).exists() else ""
            raise ClusterError(
                f"{part} ended; the last lines of {self.log(part)}:\n" + "\n".join(text.splitlines()[-12:])
            )


def kill(pids: Iterable[int]) -> None:
    """End processes that are known to be ours by the cgroup they are in, and wait for their end."""
    left = list(pids)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(_started(pid) for pid in left), "processes to end", 20)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is not ours to look at
        return []


def _kill_if(pid: int, ours: Callable[[int], bool]) -> bool:
    """Kill a process if it is ours; whether it was. Through the pidfd, the one killed is the one that was looked at."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not ours(pid):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    else:
        _reap(pid)
        return True
    finally:
        os.close(descriptor)


def _end(record: state.ProcessRecord, number: signal.Signals, grace: float) -> bool:
    """Signal a process and wait for its end; whether it is gone."""
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    try:
        if not _alive(record):
            return True
        signal.pidfd_send_signal(descriptor, number)
        ended, _, _ = select.select([descriptor], [], [], grace)
        if ended:
            _reap(record.pid)
        return bool(ended)
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)


def _alive(record: state.ProcessRecord) -> bool:
    return record.boot == _boot() and _started(record.pid) == record.started


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; ``None`` when it has ended, reaped or not."""
    _reap(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _reap(pid: int) -> None:
    """Take the exit status of a child of this very process, without which it stays a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
