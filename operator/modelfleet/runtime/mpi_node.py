"""What every node of an MPI gang does: start Hydra's proxy, hear how its ranks do, tell them to stop, and clean up.

How nodes come together, and what node 0 does beside, is in ``mpi``.
"""

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from modelfleet.runtime import mpi_hydra, mpi_rank
from modelfleet.runtime.mpi_gang import Gang

FAILED: Final = 1
"""Exit code where no rank had one: a pod that never came, or was lost."""

TOLD_TO_STOP: Final = 128 + signal.SIGTERM
"""Exit code of a gang that was told to stop before it had ranks."""

SETTLE_SECONDS: Final = 2.0
"""What tells more is given this long: a rank's own exit code rather than mpiexec's, and that rather than a proxy's."""

_GOING_SECONDS: Final = 5.0
"""For Hydra's proxy to end by itself."""


@dataclass(frozen=True)
class End:
    """How a gang ended."""

    code: int
    """The exit code of each node."""
    why: str = ""


class Node(ABC):
    """What every node does: start Hydra's proxy, hear how its ranks do, and tell them to stop."""

    def __init__(self, gang: Gang, programs: mpi_hydra.Programs, wait: float) -> None:
        self.gang = gang
        self.programs = programs
        self.wait = wait
        self.end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._background: set[asyncio.Task[None]] = set()
        self._proxy: asyncio.subprocess.Process | None = None
        self._ranks: list[int] = []
        self._stopping = False

    @abstractmethod
    async def run(self) -> End:
        """Return when all is over."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside, until this node leaves."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.over(FAILED, f"{type(error).__name__}: {error}")

    def over(self, code: int, why: str = "") -> None:
        """The first word on how it ended counts."""
        if not self.end.done():
            self.end.set_result(End(code, why))

    @abstractmethod
    def told_to_stop(self) -> None:
        """SIGTERM: all ranks of the gang are to know."""

    @abstractmethod
    async def failed(self, code: int, why: str) -> None:
        """A rank of this node failed."""

    def stop_ranks(self) -> None:
        """Have the ranks of this node stop, also those that are about to begin."""
        self._stopping = True
        for pid in self._ranks:
            _terminate(pid)

    async def start_proxy(self, arguments: Sequence[str]) -> None:
        """Start Hydra's proxy with a pipe through which its ranks tell how they do."""
        told, tell = os.pipe()
        try:
            self._proxy = proxy = await asyncio.create_subprocess_exec(
                self.programs.proxy,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                env=mpi_hydra.DEFAULTS | os.environ | {mpi_rank.TELL_ENV: str(tell)},
                pass_fds=[tell],
            )
        finally:
            os.close(tell)
        reader = asyncio.StreamReader()
        pipe = os.fdopen(told, "rb", buffering=0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self.spawn(self._hear(reader, proxy))

    async def _hear(self, ranks: asyncio.StreamReader, proxy: asyncio.subprocess.Process) -> None:
        async for line in ranks:
            match line.decode().split():
                case ["started", pid]:
                    self._ranks.append(int(pid))
                    if self._stopping:
                        _terminate(int(pid))
                case ["ended", rank, code] if code != "0":
                    await self.failed(int(code), f"rank {rank} ended with exit code {code}")
                case _:
                    pass
        # All ranks have ended, or never began.
        if (ending := await proxy.wait()) != 0:
            await asyncio.sleep(2 * SETTLE_SECONDS)
            await self.failed(FAILED, f"Hydra's proxy of node {self.gang.node} ended with exit code {ending}")

    async def leave(self) -> None:
        """End what this node started. Ranks end with their proxy, and that when mpiexec has gone."""
        for task in tuple(self._background):
            task.cancel()
        await ended(self._proxy, _GOING_SECONDS)


def _terminate(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


async def ended(process: asyncio.subprocess.Process | None, seconds: float) -> None:
    """Wait for a process to end by itself, and then no longer."""
    if process is None or process.returncode is not None:
        return
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
