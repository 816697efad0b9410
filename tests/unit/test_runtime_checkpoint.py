"""Checkpoints: whole or not at all, the newest good one found, old ones pruned, zombies harmless."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from modelfleet.api.wire import CheckpointOrder
from modelfleet.runtime import checkpoint
from modelfleet.runtime.checkpoint import Checkpoints, SupersededError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "nightly" / "train"


def attempt(root: Path, number: int = 1, rank: int = 0, keep: int = 3, **options: Any) -> Checkpoints:
    order = CheckpointOrder(root=str(root), interval_seconds=600, keep=keep)
    return Checkpoints(order, number, rank, **options)


def save(checkpoints: Checkpoints, progress: int, text: str = "") -> None:
    def write(folder: Path) -> None:
        (folder / "shards").mkdir()
        (folder / "shards" / "weights").write_text(text or f"weights {progress}")

    checkpoints.save(progress, write)


def read(checkpoints: Checkpoints) -> str | None:
    found = checkpoints.latest()
    return None if found is None else (found.folder / "shards" / "weights").read_text()


def test_the_next_attempt_goes_on_from_the_newest(root: Path) -> None:
    first = attempt(root)
    assert first.latest() is None
    save(first, 1)
    save(first, 2)
    second = attempt(root, 2)
    found = second.latest()
    assert found is not None
    assert (found.attempt, found.progress) == (1, 2)
    assert read(second) == "weights 2"
    # An attempt that ended before its first checkpoint is passed over.
    assert read(attempt(root, 3)) == "weights 2"


def test_other_ranks_write_nothing_and_find_the_same(root: Path) -> None:
    save(attempt(root), 1)
    other = attempt(root, rank=1)
    save(other, 2, "of rank 1")
    assert read(other) == "weights 1"


def test_without_a_checkpoint_in_the_job_nothing_is_saved(tmp_path: Path) -> None:
    none = Checkpoints(None, 1, 0, save_when_stopped=True)
    save(none, 1)
    assert (none.latest(), none.due()) == (None, False)
    assert list(tmp_path.iterdir()) == []


def test_one_is_due_when_the_interval_has_passed(root: Path) -> None:
    clock = Clock()
    checkpoints = attempt(root, clock=clock)
    clock.now = 599
    assert not checkpoints.due()
    clock.now = 600
    assert checkpoints.due()
    save(checkpoints, 1)
    assert not checkpoints.due()


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "no manifest", "garbage for a manifest", "a list"])
def test_a_checkpoint_that_is_not_what_was_saved_is_passed_over(root: Path, damage: str) -> None:
    first = attempt(root)
    save(first, 1)
    save(first, 2)
    folder = root / "1" / "000000000002"
    weights, manifest = folder / "shards" / "weights", folder / checkpoint.MANIFEST
    match damage:
        case "changed":
            weights.write_text("weights 3")
        case "cut":
            weights.write_text("")
        case "gone":
            weights.unlink()
        case "no manifest":
            manifest.unlink()
        case "garbage for a manifest":
            manifest.write_text("{")
        case _:
            manifest.write_text("[]")
    assert read(attempt(root, 2)) == "weights 1"


def test_an_attempt_that_is_over_removes_nothing_of_the_next_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zombie, flush = attempt(root), checkpoint._flush

    def slow(path: Path) -> None:
        """The zombie stalls as it publishes, on a node out of reach; meanwhile the next attempt begins to save."""
        flush(path)
        if path == root / "1":
            (root / "2" / ".partial-live").mkdir(parents=True)

    monkeypatch.setattr(checkpoint, "_flush", slow)
    save(zombie, 1)
    assert (root / "2" / ".partial-live").is_dir()


def test_the_newest_stay_over_all_attempts(root: Path) -> None:
    first = attempt(root)
    for progress in range(1, 5):
        save(first, progress)
    assert sorted(path.name for path in (root / "1").iterdir()) == [f"{n:012d}" for n in (2, 3, 4)]
    second = attempt(root, 2)
    save(second, 5)
    assert sorted(str(path.relative_to(root)) for path in root.glob("*/0*")) == [
        "1/000000000003",
        "1/000000000004",
        "2/000000000005",
    ]


def test_a_zombie_of_an_earlier_attempt_harms_nobody(root: Path) -> None:
    zombie = attempt(root)
    save(zombie, 7)
    second = attempt(root, 2)
    with pytest.raises(SupersededError, match="attempt 1 is over: attempt 2 has begun"):
        save(zombie, 9)
    assert read(second) == "weights 7"
    save(second, 8)
    # What it managed to write all the same is older than anything of the present attempt.
    (root / "1" / "000000000007").rename(root / "1" / "000000000099")
    assert read(second) == "weights 8"


def test_a_program_started_again_within_its_attempt_goes_on_and_may_save_again(root: Path) -> None:
    save(attempt(root), 1)
    again = attempt(root)
    assert read(again) == "weights 1"
    save(again, 1, "the same again")
    assert read(again) == "the same again"


def test_what_a_killed_process_left_half_written_is_never_found_and_goes_away(root: Path) -> None:
    def killed(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt

    first = attempt(root)
    with pytest.raises(KeyboardInterrupt):
        first.save(1, killed)
    assert first.latest() is None
    second = attempt(root, 2)
    save(second, 1)
    assert list(root.rglob(".partial-*")) == []


def test_told_to_stop_it_saves_and_ends(root: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        checkpoints = attempt(root, save_when_stopped=True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert checkpoints.due()
        with pytest.raises(SystemExit) as ended:
            save(checkpoints, 5)
        assert ended.value.code == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert read(attempt(root, 2)) == "weights 5"


SCRIPT = textwrap.dedent(
    """
    import json, os, random, signal, sys
    from modelfleet.runtime import train

    step = train.step()
    checkpoints = step.checkpoints()
    state, epoch, draw = 0.0, 0, random.Random(11)
    found = checkpoints.latest()
    if found is not None:
        saved = json.loads((found.folder / "state.json").read_text())
        state, epoch = saved["state"], found.progress
        draw.setstate((saved["draw"][0], tuple(saved["draw"][1]), saved["draw"][2]))
    for epoch in range(epoch + 1, 21):
        print(f"epoch {epoch}", flush=True)
        state = 0.9 * state + draw.random()
        if epoch % 5 == 0:
            content = json.dumps({"state": state, "draw": draw.getstate()})
            checkpoints.save(epoch, lambda folder: (folder / "state.json").write_text(content))
        if epoch == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
    step.finish({"loss": state})
    """
)


def run(tmp_path: Path, number: int, die_at: int) -> tuple[int, list[int], str]:
    """One attempt as a process of its own: exit code, epochs it went through, its loss."""
    order = {
        "trainingJob": "nightly",
        "namespace": "vision",
        "model": "m",
        "version": "1.0.0",
        "step": "train",
        "attempt": number,
        "outputUri": f"file://{tmp_path}/store/{number}",
        "checkpoint": {"root": f"{tmp_path}/volume/train", "intervalSeconds": 600, "keep": 2},
    }
    log = tmp_path / "termination"
    log.write_text("")
    environment = {"MODELFLEET_ORDER": json.dumps(order), "MODELFLEET_TERMINATION_LOG": str(log)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(die_at)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    epochs = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("epoch")]
    said = log.read_text()
    return done.returncode, epochs, json.loads(said)["metrics"]["loss"] if said else ""


def test_a_training_that_is_killed_twice_ends_as_one_that_never_was(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir()
    rough.mkdir()
    undisturbed = run(calm, 1, 0)
    assert undisturbed[:2] == (0, list(range(1, 21)))
    first, second, third = (run(rough, number, die) for number, die in ((1, 8), (2, 17), (3, 0)))
    assert (first[0], second[0], third[0]) == (-signal.SIGKILL, -signal.SIGKILL, 0)
    # Nothing before the last checkpoint is done again.
    assert (first[1][-1], second[1], third[1]) == (8, list(range(6, 18)), list(range(16, 21)))
    assert third[2] == undisturbed[2]
