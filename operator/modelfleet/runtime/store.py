"""Reading and writing files in any store fsspec knows, with errors sorted by what can be done about them.

What a file's bytes must be is checked by the callers (``fetch``, ``verify``). Nothing here prints a credential or the
query of a signed URL.
"""

import errno
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from modelfleet.runtime import credentials, drivers
from modelfleet.runtime.report import RefusedError

logger = logging.getLogger(__name__)

BLOCK_BYTES: Final = 8 * 2**20
"""Bytes of a ranged read; the most that is held in memory of a file."""

_PRINTED: Final = 90
"""Characters of a URI in a message, so that there is room for what is wrong."""
_TRIES: Final = 5
_UNKNOWN_KEY: Final = "XAdminUserNotFound"
"""versitygw's word for what S3 calls InvalidAccessKeyId, which s3fs takes for a failure of input and output."""
_WRITE_TRIES: Final = 10
"""What is written was hours in the making: some five minutes, for a store that is being updated, say."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_MOST_DOUBLINGS: Final = 6

Result = TypeVar("Result")


class NotFoundError(RefusedError):
    """The store answers, and has no such file."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A file being read."""

    offset: int
    """Where the first block starts: what was asked for, or 0 where the store cannot start in the middle."""
    size: int | None
    """Length of the whole file as the store states it."""
    blocks: Iterator[bytes]


def redact(uri: str) -> str:
    """Return a URI that may be printed: without user, password, query and fragment, and not too long for a message."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return f"{uri.partition('://')[0]}://…"
    # What stands before the @ is a container of Azure's, unless there is a password with it.
    user, _, host = parts.netloc.rpartition("@")
    shown = parts.netloc if parts.scheme == "abfs" and ":" not in user else host
    plain = f"{parts.scheme}://{shown}{parts.path}"
    return plain if len(plain) <= _PRINTED else f"{plain[: _PRINTED // 3]}…{plain[1 - _PRINTED + _PRINTED // 3 :]}"


@contextmanager
def reading(uri: str, credentials_path: str | None, *, offset: int = 0, limit: int | None = None) -> Iterator[Stream]:
    """Open a file for reading from an offset on.

    No byte behind ``limit`` (a position in the file) is asked for. Raises RefusedError with reason Unreachable,
    Unauthorized or Invalid, also while the blocks are read; ``transient`` where trying again at once may help.
    """
    filesystem, path, access = _open(uri, credentials_path)
    with _sorted_errors(uri, access):
        if _protocol(uri) in ("http", "https"):
            # size=1: fsspec shall not ask for it beforehand; that request hides the status of failures.
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            with filesystem.open(path, "rb", block_size=0, size=1, headers=headers) as file:
                response = file.r
                start = offset if response.status == 206 else 0
                length = response.content_length
                size = start + length if length is not None else None
                yield Stream(start, size, _until_empty(file, limit - start if limit is not None else None))
            return
        found = filesystem.info(path)
        if found["type"] == "directory":
            raise NotFoundError("Unreachable", f"{redact(uri)}: is a folder in the store: name one file of it")
        size = found["size"]
        if _protocol(uri) == "hf":
            with drivers.streaming(filesystem, path, offset) as file:
                yield Stream(offset, size, _until_empty(file, _least(size, limit) - offset))
        else:
            yield Stream(offset, size, _ranges(filesystem, path, offset, _least(size, limit)))


def find(uri: str, credentials_path: str | None) -> dict[str, str]:
    """The files at a URI by their path below it: of a file, itself; RefusedError as in ``reading``, also for none."""
    filesystem, path, access = _open(uri, credentials_path)
    protocol = _protocol(uri)
    if protocol in ("http", "https"):
        return {urlsplit(uri).path.rstrip("/").rpartition("/")[2] or "file": uri}
    with _sorted_errors(uri, access):
        if protocol == "hf":
            uri = drivers.at_commit(filesystem, uri)
            path = filesystem._strip_protocol(uri)
        # A name that ends in a slash marks a folder where the store has none.
        names = [name for name in sorted(filesystem.find(path)) if not name.endswith("/")]
    root, base = path.rstrip("/"), uri.rstrip("/")
    if not names:
        raise RefusedError("Unreachable", f"{redact(uri)}: not found in the store")
    if names == [root]:
        return {root.rpartition("/")[2]: base}
    below = [name.removeprefix(root).lstrip("/") for name in names]
    return {relative: f"{base}/{relative}" for relative in below}


def write(uri: str, source: Path | bytes, credentials_path: str | None) -> None:
    """Write a file's content to the store, trying again for minutes; RefusedError as in ``reading``."""

    def attempt() -> None:
        filesystem, path, access = _open(uri, credentials_path)
        # A store reached by HTTP takes files by PUT; fsspec would POST.
        options = {"method": "put"} if _protocol(uri) in ("http", "https") else {}
        with _sorted_errors(uri, access):
            if _protocol(uri) == "file":
                filesystem.makedirs(Path(path).parent, exist_ok=True)
            if isinstance(source, bytes):
                filesystem.pipe_file(path, source)
            else:
                filesystem.put_file(str(source), path, **options)

    patiently(attempt, tries=_WRITE_TRIES)


def patiently(
    attempt: Callable[[], Result], *, progressed: Callable[[], bool] = lambda: False, tries: int = _TRIES
) -> Result:
    """Call until it succeeds, pausing 1, 2, 4, … s with jitter; gives up after ``tries`` failures without progress.

    Only transient errors are tried again; the last one is raised.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except RefusedError as refusal:
            failures = 1 if progressed() else failures + 1
            if not refusal.transient or failures >= tries:
                raise
            doublings = min(failures - 1, _MOST_DOUBLINGS)
            pause = _FIRST_PAUSE_SECONDS * 2**doublings * random.SystemRandom().uniform(0.5, 1.5)
            logger.warning("%s; trying again in %.1f s", refusal.message, pause)
            time.sleep(pause)


def _open(uri: str, credentials_path: str | None) -> tuple[Any, str, credentials.Access]:
    protocol = _protocol(uri)
    if "::" in uri:
        raise RefusedError("Invalid", f"{redact(uri)}: chained URLs are not supported")
    access = credentials.load(protocol, Path(credentials_path) if credentials_path else None)
    try:
        filesystem, path = drivers.connect(uri, protocol, access)
    except ImportError as error:
        raise RefusedError("Invalid", f"{redact(uri)}: this image has no driver for {protocol}: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        text = f"{redact(uri)}: {_scrub(str(error), access)}"
        if protocol in ("gs", "abfs"):
            # What these cannot begin with is the key they were given.
            raise RefusedError("Unauthorized", f"{text}: check what the Secret holds") from None
        raise RefusedError("Invalid", text) from None
    with _sorted_errors(uri, access):
        drivers.authenticate(filesystem, protocol)
    return filesystem, path, access


def _protocol(uri: str) -> str:
    try:
        protocol = urlsplit(uri).scheme
    except ValueError as error:
        raise RefusedError("Invalid", f"{redact(uri)} is no URL: {error}") from None
    if not protocol:
        raise RefusedError("Invalid", f"{uri} has no scheme: write for example s3://bucket/model.onnx")
    return protocol


@contextmanager
def _sorted_errors(uri: str, access: credentials.Access) -> Iterator[None]:
    """Turn what a driver raises into a RefusedError; what the caller does with the blocks must raise its own."""
    where = redact(uri)
    try:
        yield
    except RefusedError:
        raise
    except FileNotFoundError as error:
        if drivers.status(error) in (401, 403):
            # The Hub's answer to a stranger: it does not tell whether there is such a repository.
            message = f"{where}: not found, or private: name a Secret with a token that may read it"
            raise RefusedError("Unauthorized", message) from None
        raise NotFoundError("Unreachable", f"{where}: not found in the store") from None
    except PermissionError as error:
        raise RefusedError("Unauthorized", f"{where}: the store refused access: {_scrub(str(error), access)}") from None
    except Exception as error:
        if (status := drivers.status(error)) is not None:
            raise _by_status(where, status) from None
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise RefusedError("Unauthorized", f"{where}: the store wants credentials: name a Secret for it") from None
        if _UNKNOWN_KEY in str(error):
            raise RefusedError("Unauthorized", f"{where}: the store refused access: unknown access key") from None
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise RefusedError("NoSpace", f"{where}: no space left on the device") from None
        text = f"{type(error).__name__}: {_scrub(str(error), access)}"
        raise RefusedError("Unreachable", f"{where}: {text}", transient=True) from None


def _by_status(where: str, status: int) -> RefusedError:
    if status in (401, 403):
        return RefusedError("Unauthorized", f"{where}: the store refused access (HTTP {status}): check the Secret")
    if status in (404, 410):
        return NotFoundError("Unreachable", f"{where}: not found in the store (HTTP {status})")
    if status == 416:
        return RefusedError("SizeMismatch", f"{where}: the file in the store is shorter than expected")
    busy = status >= 500 or status in (408, 425, 429)
    return RefusedError("Unreachable", f"{where}: the store answered HTTP {status}", transient=busy)


def _scrub(text: str, access: credentials.Access) -> str:
    for secret in access.secrets:
        text = text.replace(secret, "***")
    return re.sub(r"\?[^\s'\")]+", "?…", re.sub(r"//[^/@\s]+@", "//", text))


def _ranges(filesystem: Any, path: str, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = filesystem.cat_file(path, start=start, end=min(start + BLOCK_BYTES, end))
        if not block:
            return
        start += len(block)
        yield block


def _until_empty(file: Any, most: int | None) -> Iterator[bytes]:
    while most is None or most > 0:
        block = file.read(2**20 if most is None else min(2**20, most))
        if not block:
            return
        if most is not None:
            most -= len(block)
        yield block


def _least(size: int, limit: int | None) -> int:
    return size if limit is None else min(size, limit)
