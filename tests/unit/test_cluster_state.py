"""The local cluster's record of itself, its names on the host, its locks and its processes."""

import subprocess
import threading
from pathlib import Path

import pytest

from e2e.cluster import choice, folders, processes, state
from e2e.cluster.commands import ClusterError, wait_until
from e2e.cluster.folders import Folder

STATE = state.State(kind="local", access_key="an id", secret_key="of no use")  # noqa: S106


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(folders, "CLUSTERS", tmp_path)
    return Folder("one")


@pytest.fixture
def recorded(folder: Folder) -> Folder:
    state.save(folder, STATE)
    return folder


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "../a", "a/b", "a" * 31, "a b", "a\n"])
def test_names_that_no_folder_or_object_can_bear_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a cluster"):
        Folder(name)


def test_two_clusters_share_no_name_on_the_host(folder: Folder) -> None:
    other = Folder("two")
    assert folder.token != other.token
    assert folder.network_namespace != other.network_namespace
    assert folder.cgroup != other.cgroup
    assert len(f"{folder.network_namespace}-h") <= 15, "longer names of links are refused by the kernel"


def test_state_is_read_as_it_was_written_and_by_its_owner_only(recorded: Folder) -> None:
    assert state.load(recorded) == STATE
    assert recorded.state.stat().st_mode & 0o077 == 0


def test_a_change_that_fails_half_way_keeps_what_was_done(recorded: Folder) -> None:
    with pytest.raises(RuntimeError), state.changing(recorded) as now:
        now.index = 7
        raise RuntimeError
    loaded = state.load(recorded)
    assert loaded is not None
    assert loaded.index == 7


def test_one_lock_holder_at_a_time_although_each_removes_the_file(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", [0], [0]

    def work() -> None:
        for _ in range(50):
            with state.locked(path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1
                path.unlink()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1]


def test_a_process_is_started_seen_and_stopped(recorded: Folder) -> None:
    own = processes.Processes(recorded)
    own.start("sleeper", ["sleep", "600"])
    assert own.parts() == {"sleeper": True}
    own.stop("sleeper")
    assert own.parts() == {}
    own.stop("sleeper")


def test_a_process_that_ended_is_told_with_its_last_words(recorded: Folder) -> None:
    own = processes.Processes(recorded)
    own.start("speaker", ["sh", "-c", "echo farewell; exit 3"])
    wait_until(lambda: not own.alive("speaker"), "the speaker to end", 10)
    with pytest.raises(ClusterError, match=r"speaker ended.*\nfarewell"):
        own.expect("speaker")


def test_somebody_elses_process_under_a_recorded_pid_is_left_alone(recorded: Folder) -> None:
    with subprocess.Popen(["/usr/bin/sleep", "600"]) as foreign:
        own = processes.Processes(recorded)
        with state.changing(recorded) as now:
            now.processes["etcd"] = state.ProcessRecord(pid=foreign.pid, started=1, boot="another boot")
        assert own.parts() == {"etcd": False}
        own.stop("etcd")
        own.kill_all()
        assert foreign.poll() is None
        foreign.kill()


def test_all_processes_end_also_those_that_no_record_knows(recorded: Folder) -> None:
    own = processes.Processes(recorded)
    # The shell starts a session of its own, so neither its pid nor its group leads to the sleeper.
    own.start("starter", ["sh", "-c", f"setsid sleep 600 & echo $! > {recorded.root}/pid; wait"])
    pid_file = recorded.root / "pid"
    while not (pid_file.exists() and pid_file.read_text().strip()):
        own.expect("starter")
    recorded.state.unlink()
    own.kill_all()
    left = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    assert not left.exists() or ") Z " in left.read_text(), "at most a zombie, until its foster parent reaps it"


@pytest.mark.parametrize("wish", ["existing", "kind", "local"])
def test_a_wish_is_followed_for_a_new_name(folder: Folder, wish: choice.Wish) -> None:
    assert choice.pick(folder.name, wish) == wish


def test_kubeconfig_comes_before_everything_else(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/some/where")
    assert choice.pick(folder.name, "auto") == "existing"
    assert choice.pick(folder.name, "own") != "existing"


def test_a_name_keeps_its_kind(recorded: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/some/where")
    assert choice.pick(recorded.name, "auto") == "local"
    assert choice.pick(recorded.name, "own") == "local"
    with pytest.raises(ClusterError, match="take it down first"):
        choice.pick(recorded.name, "kind")
