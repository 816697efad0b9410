"""The launcher of MPI programs: what Hydra is asked, who is in a gang, and how checkpoints go by mpi4py."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelfleet.api.wire import CheckpointOrder
from modelfleet.runtime import __main__ as programs
from modelfleet.runtime import checkpoint, mpi, mpi_hydra
from modelfleet.runtime.checkpoint import Checkpoints
from modelfleet.runtime.mpi_gang import Gang, GangError

VARIABLES = {
    "NODE_RANK": "1",
    "NNODES": "3",
    "NPROC_PER_NODE": "2",
    "MASTER_ADDR": "nightly-train-2-0.nightly-training",
    "MASTER_PORT": "29500",
}
LINE = "HYDRA_LAUNCH: /usr/bin/hydra_pmi_proxy --control-port a-0.a:34567 --rmk user --launcher manual --proxy-id 1 \n"


def test_a_gang_is_what_the_operator_tells_of_it() -> None:
    gang = Gang.of(VARIABLES)
    assert (gang.node, gang.nodes, gang.processes) == (1, 3, 2)
    assert gang.hosts == [f"nightly-train-2-{node}.nightly-training" for node in range(3)]
    # torch.distributed keeps MASTER_PORT.
    assert gang.port == 29501


def test_a_gang_of_one_is_at_home() -> None:
    assert Gang.of(VARIABLES | {"NODE_RANK": "0", "NNODES": "1", "MASTER_ADDR": "localhost"}).hosts == ["localhost"]


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_environment_lacks_is_named(name: str) -> None:
    with pytest.raises(GangError, match=name):
        Gang.of({each: value for each, value in VARIABLES.items() if each != name})


def test_mpiexec_starts_nothing_by_itself_and_hands_on_nothing_of_its_pod() -> None:
    command = mpi_hydra.mpiexec("/usr/bin/mpiexec", ["a-0.a", "a-1.a"], 4, ["python", "train.py", "--lr", "0.1"])
    assert command[-4:] == ["python", "train.py", "--lr", "0.1"]
    options = " ".join(command[1:-4])
    for wanted in ("-launcher manual", "-hosts a-0.a,a-1.a", "-localhost a-0.a", "-ppn 4", "-n 8", "-genvnone"):
        assert wanted in options


def test_mpiexec_sees_no_secret_that_it_could_send() -> None:
    seen = {"PATH": "/bin", "LD_LIBRARY_PATH": "/opt/lib", "HYDRA_DEBUG": "1", "MPIEXEC_PORT_RANGE": "4000:4010"}
    assert mpi_hydra.environment(seen | {"AWS_SECRET_ACCESS_KEY": "s3cret", "NODE_RANK": "0"}) == seen


def test_a_line_says_what_proxy_to_start() -> None:
    arguments = ["--control-port", "a-0.a:34567", "--rmk", "user", "--launcher", "manual", "--proxy-id", "1"]
    assert mpi_hydra.launch(LINE) == arguments
    assert mpi_hydra.launch("epoch 1\n") is None
    assert mpi_hydra.launch("HYDRA_LAUNCH_END\n") is None


@pytest.mark.parametrize("line", ["HYDRA_LAUNCH: /bin/sh -c true", "HYDRA_LAUNCH:", "HYDRA_LAUNCH: hydra_pmi_proxy"])
def test_nothing_but_a_proxy_is_started(line: str) -> None:
    with pytest.raises(mpi_hydra.HydraError, match="something else"):
        mpi_hydra.launch(line)


def executable(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


def test_an_image_without_mpich_is_told_what_it_lacks(tmp_path: Path) -> None:
    executable(tmp_path, "mpiexec")
    with pytest.raises(mpi_hydra.HydraError, match="hydra_pmi_proxy must be on PATH"):
        mpi_hydra.programs(str(tmp_path))


def test_hydras_own_mpiexec_comes_first(tmp_path: Path) -> None:
    for name in ("mpiexec", "mpiexec.hydra", "hydra_pmi_proxy"):
        executable(tmp_path, name)
    assert mpi_hydra.programs(str(tmp_path)).mpiexec == str(tmp_path / "mpiexec.hydra")


def test_the_command_is_all_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    async def run(gang: Gang, _: mpi_hydra.Programs, command: list[str], wait: float) -> int:
        told.extend([gang.node, command, wait])
        return 7

    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mpi, "run", run)
    monkeypatch.setattr(mpi_hydra, "programs", lambda: mpi_hydra.Programs("mpiexec", "hydra_pmi_proxy"))
    assert programs.main(["mpi", "--wait", "60", "--", "python", "train.py", "--wait", "3", "--", "x"]) == 7
    assert told == [1, ["python", "train.py", "--wait", "3", "--", "x"], 60.0]


@pytest.mark.parametrize("arguments", [[], ["--"], ["--wait", "60"], ["python", "train.py"]])
def test_without_a_command_it_says_how(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        programs.main(["mpi", *arguments])
    assert "-- COMMAND" in capsys.readouterr().err


class World:
    """mpi4py's COMM_WORLD as one of two ranks sees it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def bcast(self, value: Any, root: int) -> Any:
        self.said.append(f"bcast from {root}")
        return value

    def Barrier(self) -> None:  # noqa: N802 - mpi4py's name
        self.said.append("barrier")

    def Abort(self, code: int) -> None:  # noqa: N802 - mpi4py's name
        self.said.append(f"abort {code}")
        raise SystemExit(code)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    module = SimpleNamespace(COMM_WORLD=made, Is_initialized=lambda: True, Is_finalized=lambda: False)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)
    return made


@pytest.fixture
def terminated(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """What was set for each signal."""
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(checkpoint.signal, "signal", handlers.__setitem__)
    return handlers


def checkpoints(root: Path, rank: int, **options: Any) -> Checkpoints:
    return Checkpoints(CheckpointOrder(root=str(root), interval_seconds=600, keep=3), 1, rank, **options)


def writes(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "weights").write_text(text)

    return write


def test_ranks_agree_by_mpi_on_the_checkpoint_to_go_on_from(tmp_path: Path, world: World) -> None:
    first = checkpoints(tmp_path, 0)
    first.save(3, writes("3"), sharded=True)
    found = first.latest()
    assert found is not None
    assert found.progress == 3
    assert world.said == ["bcast from 0", "barrier", "bcast from 0"]


def test_rank_zero_that_is_told_to_stop_saves_and_ends_all(
    tmp_path: Path, world: World, terminated: dict[int, Any]
) -> None:
    first = checkpoints(tmp_path, 0, save_when_stopped=True)
    terminated[signal.SIGTERM](signal.SIGTERM, None)
    assert first.due()
    with pytest.raises(SystemExit, match="143"):
        first.save(4, writes("4"))
    assert world.said == ["abort 143"]
    assert (tmp_path / "1" / "000000000004" / "manifest.json").exists()


@pytest.mark.usefixtures("world")
def test_other_ranks_go_on_until_rank_zero_has_saved(tmp_path: Path, terminated: dict[int, Any]) -> None:
    checkpoints(tmp_path, 1, save_when_stopped=True)
    assert terminated == {signal.SIGTERM: signal.SIG_IGN}


def test_without_mpi_other_processes_are_left_alone(tmp_path: Path, terminated: dict[int, Any]) -> None:
    checkpoints(tmp_path, 1, save_when_stopped=True)
    assert terminated == {}
