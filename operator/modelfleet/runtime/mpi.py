"""``python -m modelfleet.runtime mpi [--wait SECONDS] -- COMMAND…``: run COMMAND as the ranks of an MPI program.

Every pod of a step of ``framework: mpi`` starts this. Nobody starts anything on another node, so there is no SSH and no
daemon: node 0 runs MPICH's mpiexec, which says what proxies it waits for (``mpi_hydra``), and each pod starts its own,
which connects to mpiexec and starts the ranks of its pod (``mpi_rank``). The command is node 0's, the environment of
each rank its own pod's. What ranks print comes out of node 0.

A rank that fails ends all, and each pod with that rank's exit code. SIGTERM in any pod reaches all ranks.
"""

import argparse
import asyncio
import itertools
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from modelfleet.runtime import mpi_hydra, mpi_rank
from modelfleet.runtime.mpi_gang import Gang, GangError, Link
from modelfleet.runtime.mpi_node import FAILED, SETTLE_SECONDS, TOLD_TO_STOP, End, Node, ended

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 900.0
"""How long pods wait for each other: images of many GiB are pulled by one node sooner than by another."""

_RETRY_SECONDS: Final = 1.0


def main(arguments: Sequence[str]) -> int:
    """Run the gang's part in this pod and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m modelfleet.runtime mpi", usage="%(prog)s [--wait SECONDS] -- COMMAND…"
    )
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, help="how long pods wait for each other")
    options = list(itertools.takewhile(lambda word: word != "--", arguments))
    asked, command = parser.parse_args(options), list(arguments[len(options) + 1 :])
    if not command:
        parser.error("what shall the ranks run? it follows after --")
    try:
        return asyncio.run(run(Gang.of(os.environ), mpi_hydra.programs(), command, asked.wait))
    except (GangError, mpi_hydra.HydraError, OSError) as error:
        logger.error("%s", error)
        return FAILED


async def run(gang: Gang, programs: mpi_hydra.Programs, command: Sequence[str], wait: float) -> int:
    """The part of this node in the gang, to its end."""
    node = _First(gang, programs, command, wait) if gang.node == 0 else _Other(gang, programs, wait)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, node.told_to_stop)
    try:
        end = await node.run()
    finally:
        await node.leave()
    if end.code != 0:
        # The last line of the log: what the pod's message begins with, and people read.
        logger.error("exit code %d: %s", end.code, end.why)
    return end.code


class _First(Node):
    """Node 0: gathers the others and runs mpiexec."""

    def __init__(self, gang: Gang, programs: mpi_hydra.Programs, command: Sequence[str], wait: float) -> None:
        super().__init__(gang, programs, wait)
        self._command = command
        self._links: dict[int, Link] = {}
        self._all_here = asyncio.Event()
        self._mpiexec: asyncio.subprocess.Process | None = None

    async def run(self) -> End:
        server = await asyncio.start_server(self._welcome, port=self.gang.port)
        gathering = asyncio.ensure_future(self._gather())
        try:
            await _first(gathering, self.end)
            if not self.end.done():
                gathering.result()
                await self._launch()
        except (GangError, mpi_hydra.HydraError) as error:
            self.over(FAILED, str(error))
        finally:
            gathering.cancel()
            server.close()
        end = await self.end
        # What ranks printed last, why they failed above all, is still on its way through mpiexec. It waits for ever for
        # the ranks of other nodes where one has failed that was not killed.
        await ended(self._mpiexec, SETTLE_SECONDS)
        for link in self._links.values():
            await link.send(end=end.code, why=end.why)
        return end

    async def leave(self) -> None:
        await ended(self._mpiexec, 0)
        await super().leave()
        for link in self._links.values():
            await link.close()

    def told_to_stop(self) -> None:
        if self._proxy is None:
            self.over(TOLD_TO_STOP, "told to stop before there were any ranks")
        elif not self._stopping:
            # Where all pods are told, each hands it on; ranks hear it once.
            self.stop_ranks()
            for link in self._links.values():
                self.spawn(link.send(stop=True))

    async def failed(self, code: int, why: str) -> None:
        self.over(code, why)

    async def _gather(self) -> None:
        if self.gang.nodes > 1:
            try:
                await asyncio.wait_for(self._all_here.wait(), self.wait)
            except TimeoutError:
                missing = sorted(set(range(1, self.gang.nodes)) - self._links.keys())
                raise GangError(
                    f"of {self.gang.nodes} nodes, {missing} did not come within {self.wait:.0f} s: do their pods run"
                    f" this program, and may they connect to {self.gang.master}, port {self.gang.port}?"
                ) from None

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        match await link.receive():
            case {"gang": self.gang.master, "node": int(node)} if (
                0 < node < self.gang.nodes and node not in self._links
            ):
                self._links[node] = link
                if len(self._links) == self.gang.nodes - 1:
                    self._all_here.set()
                self.spawn(self._listen(node, link))
            case _:
                logger.warning("someone else than a node of this gang connected, and was sent away")
                await link.close()

    async def _listen(self, node: int, link: Link) -> None:
        while (said := await link.receive()) is not None:
            match said:
                case {"failed": int(code), "why": str(why)}:
                    self.over(code, why)
                case {"stop": True}:
                    self.told_to_stop()
                case _:
                    pass
        self.over(FAILED, f"node {node} went away")

    async def _launch(self) -> None:
        self._mpiexec = running = await asyncio.create_subprocess_exec(
            *mpi_hydra.mpiexec(
                self.programs.mpiexec,
                self.gang.hosts,
                self.gang.processes,
                [sys.executable, "-I", "-S", str(Path(mpi_rank.__file__)), *self._command],
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=mpi_hydra.environment(os.environ),
        )
        said = cast(asyncio.StreamReader, running.stdout)
        launches: list[list[str]] = []
        while (line := (await said.readline()).decode()) and line.strip() != mpi_hydra.LAUNCH_END:
            if (arguments := mpi_hydra.launch(line)) is None:
                _print(line.encode())
            else:
                launches.append(arguments)
        if len(launches) != self.gang.nodes:
            raise GangError(f"mpiexec asked for {len(launches)} proxies where there are {self.gang.nodes} nodes")
        logger.info("all %d nodes are here: starting %d ranks on each", self.gang.nodes, self.gang.processes)
        for node, link in self._links.items():
            await link.send(launch=launches[node])
        await self.start_proxy(launches[0])
        self.spawn(self._follow(running, said))

    async def _follow(self, running: asyncio.subprocess.Process, said: asyncio.StreamReader) -> None:
        """Hand on what ranks print, and hear how mpiexec ends."""
        while block := await said.read(1 << 16):
            _print(block)
        if (ending := await running.wait()) == 0:
            self.over(0)
        else:
            # MPI_Abort ends the ranks before they can tell: then its code is mpiexec's.
            await asyncio.sleep(SETTLE_SECONDS)
            self.over(ending if ending > 0 else FAILED, f"mpiexec ended with exit code {ending}")


class _Other(Node):
    """Any other node: comes to node 0 and does what that says."""

    _link: Link | None = None

    async def run(self) -> End:
        arriving = asyncio.ensure_future(self._arrive())
        try:
            await _first(arriving, self.end)
            if not self.end.done():
                self._link = arriving.result()
                self.spawn(self._listen(self._link))
            return await self.end
        finally:
            arriving.cancel()

    def told_to_stop(self) -> None:
        if self._link is None:
            self.over(TOLD_TO_STOP, "told to stop before node 0 was there")
        else:
            self.spawn(self._link.send(stop=True))

    async def failed(self, code: int, why: str) -> None:
        if self._link is not None:
            await self._link.send(failed=code, why=why)

    async def _arrive(self) -> Link:
        """Node 0's name is known to the cluster's DNS as soon as its pod has an address."""
        try:
            async with asyncio.timeout(self.wait):
                while True:
                    with suppress(OSError):
                        link = Link(*await asyncio.open_connection(self.gang.master, self.gang.port))
                        await link.send(gang=self.gang.master, node=self.gang.node)
                        return link
                    await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError:
            raise GangError(
                f"node 0 did not answer within {self.wait:.0f} s: does its pod run this program, and may others connect"
                f" to {self.gang.master}, port {self.gang.port}?"
            ) from None

    async def _listen(self, link: Link) -> None:
        while (said := await link.receive()) is not None:
            match said:
                case {"launch": [*arguments]} if self._proxy is None:
                    await self.start_proxy([str(argument) for argument in arguments])
                case {"stop": True}:
                    self.stop_ranks()
                case {"end": int(code), "why": str(why)}:
                    self.over(code, why)
                case _:
                    pass
        self.over(FAILED, "node 0 went away")

    async def leave(self) -> None:
        await super().leave()
        if self._link is not None:
            await self._link.close()


async def _first(*awaited: asyncio.Future[Any]) -> None:
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)


def _print(block: bytes) -> None:
    sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
