"""``recall``: reads the results that a finished step left in the store, and reports them as the step's pod had done."""

import hashlib
import logging
from typing import Final

from pydantic import ValidationError

from modelfleet.api.wire import REPORT_LIMIT, FetchReport, RecallOrder, StepReport, StepResults
from modelfleet.runtime import store
from modelfleet.runtime.report import Exit, RefusedError, encode, leave, read_order

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 16 * 2**20
"""Of results.json: names and digests of what a step wrote."""


def main() -> int:
    """Carry out the RecallOrder. DONE with a StepReport, or with a FetchReport: the store has no results."""
    try:
        leave(recall(read_order(RecallOrder)))
    except RefusedError as refusal:
        logger.error("%s: %s", refusal.reason, refusal.message)
        leave(FetchReport(file="results.json", reason=refusal.reason, message=refusal.message))
        is_answer = isinstance(refusal, store.NotFoundError) or refusal.reason == "Invalid"
        return Exit.DONE if is_answer else refusal.exit_code
    return Exit.DONE


def recall(order: RecallOrder) -> StepReport:
    """Read the results; RefusedError as in ``store``, NotFoundError where there are none, Invalid for anything else."""
    content = store.patiently(lambda: _read(order))
    where = store.redact(order.uri)
    try:
        results = StepResults.model_validate_json(content)
    except ValidationError as error:
        raise RefusedError("Invalid", f"{where} holds no results of a step: {error.errors()[0]['msg']}") from None
    report = StepReport(
        uri=order.uri,
        sha256=hashlib.sha256(content).hexdigest(),
        metrics=results.metrics,
        artifacts=results.artifacts,
    )
    if len(encode(report)) > REPORT_LIMIT:
        raise RefusedError("Invalid", f"{where}: its metrics and artifacts are more than a pod can report")
    return report


def _read(order: RecallOrder) -> bytes:
    with store.reading(order.uri, order.credentials_path, limit=MOST_BYTES) as stream:
        return b"".join(stream.blocks)
