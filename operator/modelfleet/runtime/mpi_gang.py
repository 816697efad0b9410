"""Who belongs to a gang of MPI nodes, and the lines they exchange: a JSON object each, over TCP.

| From | Line | Says |
|---|---|---|
| a node | ``{"gang": "…", "node": 2}`` | it is there; the first one |
| node 0 | ``{"launch": [arguments]}`` | start Hydra's proxy with these |
| a node | ``{"stop": true}`` | it was told to stop |
| node 0 | ``{"stop": true}`` | tell your ranks to stop |
| a node | ``{"failed": 7, "why": "…"}`` | a rank of it failed with this exit code |
| node 0 | ``{"end": 0, "why": ""}`` | it is over, with this exit code; the last one |
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self


class GangError(RuntimeError):
    """The gang cannot be, or is over before its time; the message says why."""


@dataclass(frozen=True)
class Gang:
    """A gang, and which of its nodes this is."""

    node: int
    nodes: int
    processes: int
    """Ranks on each node."""
    master: str
    """Name of node 0. Each attempt has its own, so it is the gang's name, too."""
    port: int
    """Where node 0 listens: the port after MASTER_PORT, which stays the program's own."""

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Self:
        """The gang that the environment tells of; GangError names the variable that is missing."""
        try:
            return cls(
                node=int(variables["NODE_RANK"]),
                nodes=int(variables["NNODES"]),
                processes=int(variables["NPROC_PER_NODE"]),
                master=variables["MASTER_ADDR"],
                port=int(variables["MASTER_PORT"]) + 1,
            )
        except (KeyError, ValueError) as error:
            raise GangError(
                f"the environment does not tell of a gang ({error}): is this a step of framework mpi?"
            ) from None

    @property
    def hosts(self) -> list[str]:
        """The names of all nodes: pods of an Indexed Job differ in the number that their host name ends with."""
        label, dot, domain = self.master.partition(".")
        stem = label.removesuffix("-0")
        return [self.master, *(f"{stem}-{node}{dot}{domain}" for node in range(1, self.nodes))]


class Link:
    """A connection between node 0 and another one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> dict[str, Any] | None:
        """The next line; ``None``: the other side is gone, or says what is no line of these."""
        with suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            said = json.loads(await self._reader.readuntil(b"\n"))
            if isinstance(said, dict):
                return said
        return None

    async def send(self, **said: Any) -> None:
        """Say a line; to one that is gone, in vain."""
        with suppress(OSError):
            self._writer.write(json.dumps(said).encode() + b"\n")
            await self._writer.drain()

    async def close(self) -> None:
        """Close the connection, after what was said."""
        with suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()
