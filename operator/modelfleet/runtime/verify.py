"""``verify``: are the artifacts in the store what was registered? Reports each of them, keeps none.

Each file is hashed while it streams; then its signature is looked at, where that is asked for. ONNX models are kept in
a folder meanwhile, and tried when all are hashed (``onnx_check.py``).
"""

import hashlib
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from modelfleet.api.wire import CheckedFile, InferenceCheck, SigningCheck, StoredFile, VerifiedFile, VerifyOrder
from modelfleet.api.wire import VerifyReport as Report
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
        leave(Report(artifacts=[_refused("order", refusal)]))
        return refusal.exit_code
    found = carry_out(order)
    leave(Report(artifacts=found))
    reasons = {file.reason for file in found if file.reason is not None}
    if not reasons:
        return Exit.DONE
    return Exit.REFUSED if reasons & PERMANENT else Exit.TRY_AGAIN


def carry_out(order: VerifyOrder) -> list[VerifiedFile]:
    """What is found about each file; never raises on a bad one."""
    check = order.inference
    kept = {file.name: _place(check, index) for index, file in enumerate(order.files) if check and _is_tried(file)}
    found = {file.name: verify(file, kept.get(file.name), order.signing) for file in order.files}
    models = [(file, kept[file.name]) for file in order.files if file.name in kept and found[file.name].verified]
    if check is not None and models:
        found |= _tried(models, check, found)
    return list(found.values())


def verify(file: StoredFile, keep: Path | None = None, signing: SigningCheck | None = None) -> VerifiedFile:
    """Read a file from its store and compare length and digest, then its signature; never raises on a bad file.

    ``keep``: where it shall lie afterwards.
    """
    try:
        size = store.patiently(lambda: _hash(file, keep))
        signed_by = _signed_by(file, signing) if signing is not None and isinstance(file, CheckedFile) else None
    except RefusedError as refusal:
        logger.error("%s: %s: %s", file.name, refusal.reason, refusal.message)
        return _refused(file.name, refusal)
    logger.info("%s: verified, %d bytes, sha256 %s", file.name, size, file.sha256)
    return VerifiedFile(name=file.name, verified=True, size_bytes=size, signed_by=signed_by)


def _hash(file: StoredFile, keep: Path | None) -> int:
    hasher = hashlib.sha256()
    limit = None if file.size_bytes is None else file.size_bytes + 1
    with store.reading(file.uri, file.credentials_path, limit=limit) as stream, _writing(keep) as copy:
        check_size(file, stream.size)
        progress = Progress(file.name, 0, stream.size)
        for block in stream.blocks:
            hasher.update(block)
            if copy is not None:
                copy.write(block)
            progress.add(len(block))
        if stream.size is not None and progress.received < stream.size:
            raise RefusedError("Unreachable", f"{store.redact(file.uri)}: the connection was cut", transient=True)
    check_digest(file, progress.received, hasher.hexdigest())
    return progress.received


def _writing(path: Path | None) -> Any:
    return path.open("wb") if path is not None else nullcontext()


def _signed_by(file: CheckedFile, signing: SigningCheck) -> str | None:
    """Name of the key; ``None`` where there is no signature and none is demanded."""
    from modelfleet.runtime import signing as signatures

    try:
        document = store.patiently(lambda: _read(file.signature_uri, file.credentials_path, signatures.LONGEST))
    except store.NotFoundError:
        if not signing.required:
            return None
        where = store.redact(file.signature_uri)
        raise RefusedError("Unsigned", f"there is no signature at {where}") from None
    except RefusedError as refusal:
        if refusal.reason != "Unauthorized":
            raise
        # It may be there: whoever can make the store refuse it must not thereby have an artifact pass for unsigned.
        hint = "check the Secret"
        if file.signature_uri.startswith("s3://"):
            hint = "S3 says so of a missing file, too, without s3:ListBucket: grant that, or sign the artifact"
        where = store.redact(file.signature_uri)
        raise RefusedError("Unauthorized", f"access to its signature {where} is refused; {hint}") from None
    return signatures.signer(file.sha256, document, signing.keys)


def _read(uri: str, credentials_path: str | None, longest: int) -> bytes:
    with store.reading(uri, credentials_path, limit=longest + 1) as stream:
        content = b"".join(stream.blocks)
    if len(content) > longest:
        raise RefusedError("SignatureInvalid", f"{store.redact(uri)} is longer than any signature")
    return content


def _tried(
    models: list[tuple[CheckedFile, Path]], check: InferenceCheck, found: dict[str, VerifiedFile]
) -> dict[str, VerifiedFile]:
    """The ONNX models, with what came of trying them."""
    from modelfleet.runtime import onnx_check

    try:
        samples = _samples(check)
        inspected = onnx_check.inspect(models, check.tolerance, samples)
    except RefusedError as unfit:
        logger.error("samples: %s: %s", unfit.reason, unfit.message)
        return {file.name: _refused(file.name, unfit) for file, _ in models}
    told = {}
    for name, each in inspected.items():
        refusal = each.refusal
        if refusal is not None:
            logger.error("%s: %s: %s", name, refusal.reason, refusal.message)
        told[name] = found[name].model_copy(
            update={
                "verified": refusal is None,
                "reason": refusal.reason if refusal is not None else None,
                "message": refusal.message if refusal is not None else each.note,
                "opset": each.opset,
                "inputs": onnx_check.listed(each.inputs),
                "outputs": onnx_check.listed(each.outputs),
                "agreement": each.agreement,
            }
        )
    return told


def _samples(check: InferenceCheck) -> Path | None:
    """Where the samples lie now; RefusedError where they cannot be had."""
    samples, path = check.samples, Path(check.folder) / "samples.npz"
    if samples is None:
        return None
    try:
        store.patiently(lambda: _hash(samples, path))
    except RefusedError as refusal:
        reason = "InvalidSamples" if refusal.reason in PERMANENT else refusal.reason
        raise RefusedError(reason, f"spec.verification.samples: {refusal.message}") from None
    return path


def _is_tried(file: CheckedFile) -> bool:
    return file.format == "onnx"


def _place(check: InferenceCheck, index: int) -> Path:
    return Path(check.folder) / f"{index}.onnx"


def _refused(name: str, refusal: RefusedError) -> VerifiedFile:
    return VerifiedFile(name=name, verified=False, reason=refusal.reason, message=refusal.message)
