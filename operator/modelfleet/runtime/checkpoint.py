"""Checkpoints of a training step: each appears whole or not at all, and the next attempt finds the newest good one.

On the volume every attempt has a folder of its own, ``<root>/<attempt>/<progress>/``, so that a process of an earlier
attempt that is still alive somewhere (on a node that was taken for dead, say) harms nobody: nothing it writes is
newer than what the present attempt wrote, and it is told to stop at its next checkpoint. A checkpoint is written
beside its place, hashed, flushed to the disk and renamed; ``manifest.json`` in it has the SHA-256 of every file.
That is held against torn writes and worn disks. Who can write to the volume can write manifests, too.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from modelfleet.api.wire import CheckpointOrder
from modelfleet.runtime.early_stop import Told, is_better

logger = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
STOPPED: Final = 128 + signal.SIGTERM
"""Exit code of a program that saved a checkpoint because it was told to stop."""

_PARTIAL: Final = ".partial-"
_CHUNK: Final = 1 << 20


class SupersededError(RuntimeError):
    """A newer attempt at this step has begun: this process belongs to one that is over, and must not go on."""


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A checkpoint that is whole: newer ones are greater."""

    attempt: int
    progress: int
    """As it was given to :meth:`Checkpoints.save`: an epoch, or a number of batches."""
    folder: Path
    """Holds what ``write`` put there."""


class Checkpoints:
    """What a step's script uses, from ``train.step().checkpoints()``. Every process may call all of it.

    Without ``checkpoint`` in the TrainingJob nothing is ever due, nothing found, and nothing saved.
    """

    def __init__(
        self,
        order: CheckpointOrder | None,
        attempt: int,
        rank: int,
        *,
        save_when_stopped: bool = False,
        clock: Callable[[], float] = time.monotonic,
        told: Told | None = None,
        maximize: bool | None = None,
    ) -> None:
        self._order = order
        self._root = Path(order.root) if order is not None else Path()
        self._attempt = attempt
        self._rank = rank
        self._clock = clock
        self._last = clock()
        self._terminated = False
        self._told = told if told is not None else Told()
        self._maximize = maximize
        if order is not None and rank == 0:
            self._own.mkdir(parents=True, exist_ok=True)
        if order is not None and save_when_stopped:
            if rank == 0:
                signal.signal(signal.SIGTERM, self._stop)
            elif _mpi() is not None:
                # All ranks of an MPI program are told; rank 0 comes to its checkpoint only if the others go on.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def due(self, score: float | None = None) -> bool:
        """Whether ``checkpoint.intervalSeconds`` have passed since the last one, or rank 0 was told to stop.

        With a ``score``, the metric of ``spec.termination``: also whether it is better than those of all saved ones.

        Processes have clocks of their own: where all of them write (``sharded``), let rank 0 decide, or save every so
        many batches.
        """
        if self._order is None:
            return False
        if self._stopping or self._clock() - self._last >= self._order.interval_seconds:
            return True
        if score is None or self._maximize is None:
            return False
        return is_better(score, self._best_score(), maximize=self._maximize)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose files are what they were; ``None``: begin at the beginning.

        Where ``torch.distributed`` is initialised, or ``mpi4py.MPI`` imported, rank 0 chooses for all, so that all go
        on from the same one. On CUDA call ``torch.cuda.set_device`` before.
        """
        if self._order is None:
            return None
        checkpoint = self._chosen(self._all)
        if checkpoint is not None:
            logger.info("going on from checkpoint %d of attempt %d", checkpoint.progress, checkpoint.attempt)
        return checkpoint

    def best(self) -> Checkpoint | None:
        """The checkpoint with the best score, of whichever attempt; ``None``: none was saved with one.

        What is better, ``spec.termination.direction`` says; without it, none is the best.
        What a training that was stopped early ends with. Rank 0 chooses for all, as in :meth:`latest`.
        """
        return None if self._order is None else self._chosen(self._by_score)

    def save(
        self, progress: int, write: Callable[[Path], None], *, sharded: bool = False, score: float | None = None
    ) -> None:
        """Have ``write`` put a checkpoint into the folder it is given; only rank 0 writes, unless ``sharded``.

        ``progress`` must grow. The one with the best ``score`` is kept beside the newest ones. With ``sharded`` every
        process calls ``write`` with the same folder (as ``torch.distributed.checkpoint.save`` wants it); that needs
        ``torch.distributed`` or ``mpi4py``. Raises :class:`SupersededError` where a newer attempt has begun. Once rank
        0 was told to stop or to give way, this ends its program.
        """
        if self._order is None or (self._rank != 0 and not sharded):
            return
        self._refuse_if_superseded()
        partial = Path(agreed(str(self._partial()) if self._rank == 0 else None)) if sharded else self._partial()
        write(partial)
        if sharded:
            _meet()
        if self._rank == 0:
            self._publish(partial, progress, score)
            self._prune(self._order.keep)
        self._last = self._clock()
        if self._stopping:
            logger.info("told to stop: saved checkpoint %d", progress)
            if (world := _mpi()) is not None:
                # Leaving alone, rank 0 would wait in MPI_Finalize for ranks that go on.
                world.Abort(STOPPED)
            sys.exit(STOPPED)

    @property
    def _own(self) -> Path:
        return self._root / str(self._attempt)

    def _partial(self) -> Path:
        return Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._own))

    def _publish(self, partial: Path, progress: int, score: float | None) -> None:
        files = {str(path.relative_to(partial)): _flushed_sha256(path) for path in _files(partial)}
        manifest = partial / MANIFEST
        manifest.write_text(json.dumps({"progress": progress, "files": files, "score": score}))
        _flush(manifest)
        for folder in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
            _flush(folder)
        self._refuse_if_superseded()
        place = self._own / _place(progress)
        if place.exists():
            # Saved before, by this attempt: the program was started again within it.
            _remove(place)
        partial.chmod(0o770)
        partial.rename(place)
        _flush(self._own)
        logger.info("saved checkpoint %d: %d files", progress, len(files))

    def _refuse_if_superseded(self) -> None:
        newest = max((int(folder.name) for folder in self._attempts()), default=self._attempt)
        if newest > self._attempt:
            raise SupersededError(f"attempt {self._attempt} is over: attempt {newest} has begun")

    def _attempts(self) -> list[Path]:
        return [path for path in self._root.iterdir() if path.name.isdecimal()] if self._root.is_dir() else []

    def _all(self) -> list[Checkpoint]:
        """Every checkpoint of this attempt and those before, the newest first; not yet known to be whole."""
        found = [
            Checkpoint(int(attempt.name), int(place.name), place)
            for attempt in self._attempts()
            if int(attempt.name) <= self._attempt
            for place in attempt.iterdir()
            if place.name.isdecimal()
        ]
        return sorted(found, reverse=True)

    def _by_score(self) -> list[Checkpoint]:
        """Those that have a score, the best first; of equals, the newest."""
        if self._maximize is None:
            return []
        scored = [(score, each) for each in self._all() if (score := _score(each.folder)) is not None]
        sign = -1 if self._maximize else 1
        return [each for _, each in sorted(scored, key=lambda pair: sign * pair[0])]

    def _best_score(self) -> float | None:
        return next((_score(each.folder) for each in self._by_score()), None)

    def _chosen(self, candidates: Callable[[], list[Checkpoint]]) -> Checkpoint | None:
        """The first one that is whole, by rank 0's word."""
        found = self._first_whole(candidates()) if self._rank == 0 or _group() is None else None
        chosen = agreed(None if found is None else (found.attempt, found.progress))
        if chosen is None:
            return None
        attempt, progress = chosen
        return Checkpoint(attempt, progress, self._root / str(attempt) / _place(progress))

    def _first_whole(self, candidates: Iterable[Checkpoint]) -> Checkpoint | None:
        for checkpoint in candidates:
            flaw = _flaw(checkpoint.folder)
            if not flaw:
                return checkpoint
            logger.warning("checkpoint %s is passed over: %s", checkpoint.folder, flaw)
        return None

    def _prune(self, keep: int) -> None:
        best = self._by_score()[:1]
        for checkpoint in self._all()[keep:]:
            if checkpoint not in best:
                _remove(checkpoint.folder)
        for attempt in self._attempts():
            # A newer one may have begun since this one last looked: what is in there is being written.
            for leftover in attempt.glob(f"{_PARTIAL}*") if int(attempt.name) <= self._attempt else ():
                shutil.rmtree(leftover, ignore_errors=True)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._terminated = True

    @property
    def _stopping(self) -> bool:
        return self._terminated or (self._rank == 0 and self._told.give_way)


def _place(progress: int) -> str:
    return f"{progress:012d}"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)


def _flaw(folder: Path) -> str:
    """What is wrong with a checkpoint; empty: nothing."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        for name, sha256 in files.items():
            if _sha256(folder / name) != sha256:
                return f"{name} is not what was saved"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _score(folder: Path) -> float | None:
    """What the checkpoint was saved with; ``None``: with no score, or a NaN."""
    try:
        score = json.loads((folder / MANIFEST).read_text()).get("score")
    except (OSError, ValueError, AttributeError):
        return None
    return float(score) if isinstance(score, int | float) and not math.isnan(score) else None


def _remove(folder: Path) -> None:
    """Out of sight first, so that nobody takes what is half removed for a checkpoint."""
    hidden = folder.with_name(f"{_PARTIAL}removed-{folder.name}-{os.getpid()}")
    try:
        folder.rename(hidden)
    except OSError:
        return
    shutil.rmtree(hidden, ignore_errors=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _flushed_sha256(path: Path) -> str:
    _flush(path)
    return _sha256(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _group() -> Any:
    """``torch.distributed`` with its process group, where the script has set one up; never imported here."""
    module = sys.modules.get("torch.distributed")
    return module if module is not None and module.is_available() and module.is_initialized() else None


def _mpi() -> Any:
    """mpi4py's communicator of all ranks, where the script has imported ``mpi4py.MPI``; never imported here."""
    module = sys.modules.get("mpi4py.MPI")
    return module.COMM_WORLD if module is not None and module.Is_initialized() and not module.Is_finalized() else None


def agreed(value: Any) -> Any:
    """Rank 0's value, in every process."""
    if (group := _group()) is not None:
        box = [value]
        group.broadcast_object_list(box, src=0)
        return box[0]
    if (world := _mpi()) is not None:
        return world.bcast(value, root=0)
    return value


def _meet() -> None:
    if (group := _group()) is not None:
        group.barrier()
    elif (world := _mpi()) is not None:
        world.Barrier()
