"""``verify``: hashes files where they lie in the store, keeping nothing, and reports each of them."""

import hashlib
import logging

from modelfleet.api.wire import StoredFile, VerifiedFile, VerifyOrder, VerifyReport
from modelfleet.runtime import store
from modelfleet.runtime.fetch import Progress, check_digest, check_size
from modelfleet.runtime.report import PERMANENT, Exit, RefusedError, leave, read_order

logger = logging.getLogger(__name__)


def main() -> int:
    """Carry out the VerifyOrder. DONE: all verified; REFUSED: a file is wrong; TRY_AGAIN: some could not be read."""
    try:
        order = read_order(VerifyOrder)
    except RefusedError as refusal:
        logger.error("%s", refusal.message)
        leave(VerifyReport(artifacts=[_refused("order", refusal)]))
        return refusal.exit_code
    found = [verify(file) for file in order.files]
    leave(VerifyReport(artifacts=found))
    reasons = {file.reason for file in found if file.reason is not None}
    if not reasons:
        return Exit.DONE
    return Exit.REFUSED if reasons & PERMANENT else Exit.TRY_AGAIN


def verify(file: StoredFile) -> VerifiedFile:
    """Read a file from its store and compare length and digest; never raises on a bad file."""
    try:
        size = store.patiently(lambda: _hash(file))
    except RefusedError as refusal:
        logger.error("%s: %s: %s", file.name, refusal.reason, refusal.message)
        return _refused(file.name, refusal)
    logger.info("%s: verified, %d bytes, sha256 %s", file.name, size, file.sha256)
    return VerifiedFile(name=file.name, verified=True, size_bytes=size)


def _hash(file: StoredFile) -> int:
    hasher = hashlib.sha256()
    limit = None if file.size_bytes is None else file.size_bytes + 1
    with store.reading(file.uri, file.credentials_path, limit=limit) as stream:
        check_size(file, stream.size)
        progress = Progress(file.name, 0, stream.size)
        for block in stream.blocks:
            hasher.update(block)
            progress.add(len(block))
        if stream.size is not None and progress.received < stream.size:
            raise RefusedError("Unreachable", f"{store.redact(file.uri)}: the connection was cut", transient=True)
    check_digest(file, progress.received, hasher.hexdigest())
    return progress.received


def _refused(name: str, refusal: RefusedError) -> VerifiedFile:
    return VerifiedFile(name=name, verified=False, reason=refusal.reason, message=refusal.message)
