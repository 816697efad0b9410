"""``checkout``: brings the files of one commit into a step's workspace (init containers)."""

import logging
from pathlib import Path

from modelfleet.api.wire import CheckoutOrder, FetchReport
from modelfleet.runtime import dvc_pull, git_source
from modelfleet.runtime.report import Exit, RefusedError, leave, read_order

logger = logging.getLogger(__name__)


def main() -> int:
    """Carry out the CheckoutOrder; on failure the report says why the commit could not be had."""
    try:
        check_out(read_order(CheckoutOrder))
    except RefusedError as refusal:
        logger.error("%s: %s", refusal.reason, refusal.message)
        leave(FetchReport(file="source", reason=refusal.reason, message=refusal.message))
        return refusal.exit_code
    return Exit.DONE


def check_out(order: CheckoutOrder) -> None:
    """Fetch the commit without its history into ``order.folder``; RefusedError as in ``git_source``."""
    folder = Path(order.folder)
    with (
        git_source.connection(order.repository, order.credentials_path) as remote,
        git_source.fetch(remote, order.commit, folder) as repo,
    ):
        git_source.check_out(repo, order.commit, remote)
    if not (folder / order.path).is_dir():
        raise RefusedError("Invalid", f"source.git.path: commit {order.commit[:12]} has no folder {order.path}")
    if order.pull is not None:
        dvc_pull.pull(folder, folder / order.path, order.pull)
    logger.info("%s: commit %s", folder, order.commit)
