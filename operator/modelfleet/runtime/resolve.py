"""``resolve``: which commit a training job's source is, and what DVC recorded at it; reported, nothing is kept."""

import logging
import tempfile
from pathlib import Path

from modelfleet.api.wire import ResolveOrder, ResolveReport
from modelfleet.runtime import dvc, git_source
from modelfleet.runtime.report import Exit, RefusedError, leave, read_order

logger = logging.getLogger(__name__)


def main() -> int:
    """Carry out the ResolveOrder. REFUSED: there is no such revision; TRY_AGAIN: the server could not be asked."""
    try:
        report = resolve(read_order(ResolveOrder))
    except RefusedError as refusal:
        logger.error("%s: %s", refusal.reason, refusal.message)
        leave(ResolveReport(reason=refusal.reason, message=refusal.message))
        return refusal.exit_code
    logger.info("commit %s, found as %s", report.commit, ", ".join(report.refs) or "a commit")
    leave(report)
    return Exit.DONE


def resolve(order: ResolveOrder) -> ResolveReport:
    """Find the commit, fetch it, and read what DVC recorded; RefusedError as in ``git_source``."""
    with (
        git_source.connection(order.repository, order.credentials_path) as remote,
        tempfile.TemporaryDirectory(prefix="source-") as scratch,
    ):
        found = git_source.resolve(remote, order.revision, order.trust)
        with git_source.fetch(remote, found.commit, Path(scratch, "repository")) as repo:
            files = git_source.files(repo, found.commit, order.path, remote)
            recorded = dvc.recorded(files)
    report = ResolveReport(
        commit=found.commit, refs=list(found.refs), params=recorded.params, data=recorded.data, message=recorded.message
    )
    return dvc.within_limit(report)
