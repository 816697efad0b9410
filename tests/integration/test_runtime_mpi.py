"""Gangs of MPI ranks with MPICH's own programs: each node a process, as pods of framework mpi start it."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.cluster.commands import wait_until
from modelfleet.runtime import mpi_rank

SOURCES = str(Path(mpi_rank.__file__).parents[2])
SECRET = "of-node-0-alone"  # noqa: S105 - looked for where it must not be


def two_free_ports() -> int:
    """The first of two: node 0 listens at the second. Not of those that the kernel gives connections at any moment."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("", port))
            second.bind(("", port + 1))
            return port


class Gang:
    """The nodes of a gang, on this machine."""

    def __init__(self, folder: Path, nodes: int, program: str, wait: int = 60) -> None:
        script = folder / "program.py"
        script.write_text(textwrap.dedent(program))
        port = str(two_free_ports())
        self.told = {"NNODES": str(nodes), "NPROC_PER_NODE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        self.told |= {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "PYTHONPATH": SOURCES, "FOLDER": str(folder)}
        self.command = ["-P", "-m", "modelfleet.runtime", "mpi", "--wait", str(wait), "--", sys.executable, str(script)]
        self.folder = folder
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *nodes: int, **variables: str) -> None:
        for node in nodes:
            with (self.folder / f"log-{node}").open("wb") as log:
                self.nodes[node] = subprocess.Popen(
                    [sys.executable, *self.command],
                    env=os.environ | self.told | {"NODE_RANK": str(node)} | variables,
                    stdout=log,
                    stderr=log,
                )

    def log(self, node: int) -> str:
        return (self.folder / f"log-{node}").read_text()

    def codes(self) -> list[int]:
        """The exit codes of the nodes that were started, when all have ended."""
        return [self.nodes[node].wait(timeout=120) for node in sorted(self.nodes)]

    def await_file(self, name: str) -> None:
        wait_until(lambda: (self.folder / name).exists(), name, 60)


@pytest.fixture
def gangs() -> Iterator[list[Gang]]:
    made: list[Gang] = []
    yield made
    for gang in made:
        for node in gang.nodes.values():
            node.kill()
            node.wait()


def begun(gangs: list[Gang], folder: Path, nodes: int, program: str) -> Gang:
    gang = Gang(folder, nodes, program)
    gangs.append(gang)
    gang.start(*range(nodes))
    return gang


def test_ranks_of_all_nodes_add_up(gangs: list[Gang], tmp_path: Path) -> None:
    gang = Gang(
        tmp_path,
        3,
        """
        import os
        from mpi4py import MPI
        world = MPI.COMM_WORLD
        assert os.environ["MPIR_CVAR_CH4_CMA_ENABLE"] == "0"
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "TOKEN")
        told = " ".join(os.environ.get(name, "-") for name in names)
        print(f"sum {world.allreduce(world.rank + 1)} of {world.size}: {told}\\n", end="", flush=True)
        """,
    )
    gangs.append(gang)
    # The others first: they wait.
    gang.start(2, 1)
    gang.start(0, TOKEN=SECRET)
    assert gang.codes() == [0, 0, 0], [gang.log(node) for node in range(3)]
    found = sorted(re.findall(r"sum 21 of 6: (.*)", gang.log(0)))
    # Each rank has the variables of its own pod, and no other's.
    secrets = [SECRET, SECRET, "-", "-", "-", "-"]
    assert found == [f"{rank} 6 {rank % 2} 2 {rank // 2} {secrets[rank]}" for rank in range(6)]
    assert "sum" not in gang.log(1) + gang.log(2)


def test_a_rank_that_fails_before_mpi_begins_ends_all_with_its_code(gangs: list[Gang], tmp_path: Path) -> None:
    gang = begun(
        gangs,
        tmp_path,
        2,
        """
        import os, sys
        if os.environ["RANK"] == "3":
            print("there is no such dataset", file=sys.stderr)
            sys.exit(75)
        from mpi4py import MPI
        """,
    )
    assert gang.codes() == [75, 75]
    assert "there is no such dataset" in gang.log(0)
    for node in range(2):
        assert gang.log(node).rstrip().endswith("exit code 75: rank 3 ended with exit code 75")


def test_a_rank_that_is_killed_ends_all_as_a_container_would(gangs: list[Gang], tmp_path: Path) -> None:
    gang = begun(
        gangs,
        tmp_path,
        2,
        """
        import os, pathlib, signal
        from mpi4py import MPI
        world = MPI.COMM_WORLD
        pathlib.Path(os.environ["FOLDER"], f"pid-{world.rank}").write_text(str(os.getpid()))
        world.Barrier()
        if world.rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        world.Barrier()
        """,
    )
    assert gang.codes() == [137, 137]
    # None of its ranks is left.
    pids = [int((tmp_path / f"pid-{rank}").read_text()) for rank in range(4)]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all ranks to be gone", 30)


def test_a_node_that_is_lost_ends_the_others(gangs: list[Gang], tmp_path: Path) -> None:
    gang = begun(
        gangs,
        tmp_path,
        2,
        """
        import os, pathlib, time
        from mpi4py import MPI
        MPI.COMM_WORLD.Barrier()
        pathlib.Path(os.environ["FOLDER"], "running").touch()
        time.sleep(600)
        """,
    )
    gang.await_file("running")
    gang.nodes[1].kill()
    assert gang.codes() == [1, -signal.SIGKILL]
    assert "node 1 went away" in gang.log(0)


def test_one_node_that_is_told_to_stop_tells_all_ranks(gangs: list[Gang], tmp_path: Path) -> None:
    gang = begun(
        gangs,
        tmp_path,
        2,
        """
        import os, pathlib, signal, time
        from mpi4py import MPI
        world, folder, told = MPI.COMM_WORLD, pathlib.Path(os.environ["FOLDER"]), []
        signal.signal(signal.SIGTERM, lambda *_: told.append(1))
        world.Barrier()
        (folder / "running").touch()
        while not told:
            time.sleep(0.01)
        (folder / f"told-{world.rank}").touch()
        world.Barrier()
        raise SystemExit(143 if world.rank == 0 else 0)
        """,
    )
    gang.await_file("running")
    gang.nodes[1].terminate()
    assert gang.codes() == [143, 143]
    assert {path.name for path in tmp_path.glob("told-*")} == {f"told-{rank}" for rank in range(4)}


def test_a_node_that_never_comes_is_named(gangs: list[Gang], tmp_path: Path) -> None:
    gang = Gang(tmp_path, 3, "", wait=2)
    gangs.append(gang)
    gang.start(0, 1)
    assert gang.codes() == [1, 1]
    for node in (0, 1):
        assert "of 3 nodes, [2] did not come within 2 s" in gang.log(node)


def test_a_node_without_node_0_does_not_wait_for_ever(gangs: list[Gang], tmp_path: Path) -> None:
    gang = Gang(tmp_path, 2, "", wait=1)
    gangs.append(gang)
    gang.start(1)
    assert gang.codes() == [1]
    assert "node 0 did not answer within 1 s" in gang.log(1)


def test_a_stranger_is_sent_away(gangs: list[Gang], tmp_path: Path) -> None:
    gang = Gang(tmp_path, 2, 'print("done")')
    gangs.append(gang)
    gang.start(0)
    address = ("localhost", int(gang.told["MASTER_PORT"]) + 1)

    def said(line: bytes) -> bytes:
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(line)
            return connection.recv(1)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) == 0

    wait_until(listens, "node 0 to listen", 60)
    for line in (b"GET / HTTP/1.1\r\n\r\n", b'{"gang": "another", "node": 1}\n', b'{"gang": "localhost", "node": 7}\n'):
        assert said(line) == b""
    gang.start(1)
    assert gang.codes() == [0, 0]
    assert gang.log(0).count("done") == 4


def test_what_cannot_be_started_is_told(gangs: list[Gang], tmp_path: Path) -> None:
    gang = Gang(tmp_path, 1, "")
    gang.command[-2:] = ["no-such-program"]
    gangs.append(gang)
    gang.start(0)
    assert gang.codes() == [mpi_rank.CANNOT_START]
    assert "no-such-program cannot be started" in gang.log(0)
