"""``fetch``: brings files onto the device, whole and verified, or not at all.

A download goes to ``<path>.part`` and is resumed there after an interruption: what is present is hashed again, the rest
is asked for. The finished file is synced and renamed, so ``path`` never holds bytes that were not verified.
"""

import functools
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from modelfleet.api.wire import FetchFolder, FetchItem, FetchOrder, FetchReport, StoredFile
from modelfleet.runtime import store
from modelfleet.runtime.report import Exit, RefusedError, leave, read_order

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 2**20


def main() -> int:
    """Carry out the FetchOrder; on failure the report names the first file that could not be had."""
    name = "order"
    try:
        order = read_order(FetchOrder)
        for item in order.files:
            name = item.name
            fetch(item)
        for folder in order.folders or ():
            name = folder.name
            fetch_folder(folder)
    except RefusedError as refusal:
        logger.error("%s: %s: %s", name, refusal.reason, refusal.message)
        leave(FetchReport(file=name, reason=refusal.reason, message=refusal.message))
        return refusal.exit_code
    return Exit.DONE


def fetch(item: FetchItem) -> Path:
    """Bring one file to ``item.path``; returns at once when the verified file is there already.

    Raises RefusedError: HashMismatch, SizeMismatch, Unreachable, Unauthorized, NoSpace, Invalid.
    """
    path = Path(item.path)
    if path.exists():
        if sha256_of(path) == item.sha256:
            logger.info("%s: present and verified", path)
            return path
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _complete(item, part)
    part.rename(path)
    _sync_folder(path.parent)
    logger.info("%s: verified, %d bytes, sha256 %s", path, path.stat().st_size, item.sha256)
    return path


def fetch_folder(wanted: FetchFolder) -> list[Path]:
    """Bring a file, or all files of a folder, as they lie in the store; those that are there already are replaced.

    Raises RefusedError: Unreachable, Unauthorized, NoSpace, Invalid.
    """
    found = store.patiently(lambda: store.find(wanted.uri, wanted.credentials_path))
    root, paths = Path(wanted.path), []
    for relative, uri in found.items():
        path = root / relative
        if not path.resolve().is_relative_to(root.resolve()):
            raise RefusedError("Invalid", f"{store.redact(uri)} would lie outside of {root}")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        store.patiently(functools.partial(_copy, uri, wanted.credentials_path, part))
        part.rename(path)
        logger.info("%s: %d bytes, sha256 %s", path, path.stat().st_size, sha256_of(path))
        paths.append(path)
    return paths


def _copy(uri: str, credentials_path: str | None, part: Path) -> None:
    with part.open("wb") as file, store.reading(uri, credentials_path) as stream:
        for block in stream.blocks:
            _write(file, block)
        if stream.size is not None and file.tell() < stream.size:
            raise RefusedError("Unreachable", f"{store.redact(uri)}: the connection was cut", transient=True)


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_size(file: StoredFile, size: int | None) -> None:
    """Refuse a file whose length the store states differently from the order."""
    if file.size_bytes is not None and size is not None and size != file.size_bytes:
        raise RefusedError(
            "SizeMismatch",
            f"{store.redact(file.uri)} has {size} bytes in the store, {file.size_bytes} are expected: "
            "it was cut off or replaced after it was registered",
        )


def check_digest(file: StoredFile, received: int, digest: str) -> None:
    """Refuse a file whose bytes, all read, are not the expected ones."""
    where = store.redact(file.uri)
    if file.size_bytes is not None and received != file.size_bytes:
        size = "more" if received > file.size_bytes else str(received)
        raise RefusedError("SizeMismatch", f"{where} has {size} bytes, {file.size_bytes} are expected")
    if digest != file.sha256:
        raise RefusedError(
            "HashMismatch",
            f"{where} was changed after it was registered: its sha256 is {digest}, expected is {file.sha256}",
        )


def _complete(item: FetchItem, part: Path) -> None:
    """Make the ``.part`` file whole and verified; two goes, as what an earlier run left may be of other content."""
    for leftover in (True, False) if part.exists() else (False,):
        try:
            store.patiently(lambda: _receive(item, part), progressed=_growth(part))
            return
        except RefusedError as refusal:
            if refusal.reason not in ("HashMismatch", "SizeMismatch"):
                raise
            part.unlink(missing_ok=True)
            if not leftover:
                raise
            logger.info("%s: what an earlier run left does not fit; starting over", part)


def _receive(item: FetchItem, part: Path) -> None:
    """Append to the ``.part`` file what is missing, over one connection, and check it."""
    with part.open("ab+") as file:
        hasher = hashlib.sha256()
        kept = _hash_present(file, hasher)
        if item.size_bytes is not None and kept > item.size_bytes:
            raise RefusedError("SizeMismatch", f"{part} is longer than the {item.size_bytes} bytes expected")
        received = kept
        if kept != item.size_bytes:
            received, hasher = _append(item, file, kept, hasher)
        check_digest(item, received, hasher.hexdigest())
        file.flush()
        os.fsync(file.fileno())


def _append(item: FetchItem, file: IO[bytes], kept: int, hasher: "hashlib._Hash") -> tuple[int, "hashlib._Hash"]:
    """Receive what is missing; how many bytes there are then, and their hash."""
    limit = None if item.size_bytes is None else item.size_bytes + 1
    with store.reading(item.uri, item.credentials_path, offset=kept, limit=limit) as stream:
        check_size(item, stream.size)
        if stream.offset != kept:
            # The store cannot start in the middle, and sends all of it again.
            file.truncate(0)
            kept, hasher = 0, hashlib.sha256()
        _check_space(item, file.name, None if stream.size is None else stream.size - kept)
        progress = Progress(item.name, kept, stream.size)
        for block in stream.blocks:
            _write(file, block)
            hasher.update(block)
            progress.add(len(block))
        if stream.size is not None and progress.received < min(stream.size, limit or stream.size):
            raise RefusedError("Unreachable", f"{store.redact(item.uri)}: the connection was cut", transient=True)
    return progress.received, hasher


def _write(file: IO[bytes], block: bytes) -> None:
    try:
        file.write(block)
    except OSError as error:
        raise RefusedError("NoSpace", f"{file.name} cannot be written: {error.strerror}") from error


def _hash_present(file: IO[bytes], hasher: "hashlib._Hash") -> int:
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        hasher.update(chunk)
    return file.tell()


def _check_space(item: FetchItem, path: str, missing: int | None) -> None:
    free = shutil.disk_usage(Path(path).parent).free
    if missing is not None and missing > free:
        raise RefusedError("NoSpace", f"{item.name} takes {missing} more bytes, {free} are free at {Path(path).parent}")


def _growth(part: Path) -> Callable[[], bool]:
    """Return a function that tells whether the ``.part`` file has grown since it was last asked."""
    before = 0

    def grown() -> bool:
        nonlocal before
        size = part.stat().st_size if part.exists() else 0
        gained, before = size > before, size
        return gained

    return grown


class Progress:
    """Counts bytes and logs a line every few seconds of a long transfer."""

    def __init__(self, name: str, received: int, total: int | None) -> None:
        self.name = name
        self.received = received
        self.total = total
        self._next_line = time.monotonic() + _PROGRESS_SECONDS

    def add(self, count: int) -> None:
        """Note that bytes arrived."""
        self.received += count
        if time.monotonic() >= self._next_line:
            share = f" of {self.total / 2**20:.1f}" if self.total else ""
            logger.info("%s: %.1f%s MiB", self.name, self.received / 2**20, share)
            self._next_line = time.monotonic() + _PROGRESS_SECONDS


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
