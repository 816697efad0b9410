"""Whether an artifact was signed with a key that the installation trusts, offline: no log, no certificates.

The forms taken are those that the usual tools write (each an ECDSA signature):

- ``model_signing sign key``: a Sigstore bundle with a DSSE envelope around an in-toto statement, which lists the files
  of the model with their digests (OpenSSF Model Signing v1.0). One signature over a folder covers all files in it.
- ``cosign sign-blob --key``: a Sigstore bundle with a message signature, or the bare signature in base64.
- ``openssl dgst -sha256 -sign``: the bare signature, as it is or in base64.

A blob's signature is made over its SHA-256, so the digest that was verified already is all that is needed of the file.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from modelfleet.api.wire import PublicKey
from modelfleet.runtime.report import RefusedError

LONGEST: Final = 1 << 20
"""Bytes of a signature file at most."""

_IN_TOTO: Final = "application/vnd.in-toto+json"
_MODEL_SIGNING: Final = "https://model_signing/signature/v1.0"
_HASHES: Final[dict[int, hashes.HashAlgorithm]] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
"""By the size of the curve: what a DSSE envelope is hashed with."""


def signer(sha256: str, document: bytes, keys: Iterable[PublicKey]) -> str:
    """Name of the key that the file of this digest was signed with; RefusedError(SignatureInvalid) where none fits."""
    known = [(key.name, _public_key(key)) for key in keys]
    try:
        name = _signer(sha256, document, known)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise RefusedError("SignatureInvalid", f"its signature cannot be read: {type(error).__name__}") from None
    if not name:
        names = ", ".join(name for name, _ in known) or "none"
        raise RefusedError("SignatureInvalid", f"its signature was made with none of the trusted keys ({names})")
    return name


def _signer(sha256: str, document: bytes, keys: list[tuple[str, ec.EllipticCurvePublicKey]]) -> str:
    if not document.lstrip().startswith(b"{"):
        return _blob_signer(sha256, _bare(document), keys)
    bundle = json.loads(document)
    if "messageSignature" in bundle:
        return _blob_signer(sha256, base64.b64decode(bundle["messageSignature"]["signature"]), keys)
    if "base64Signature" in bundle:
        # The bundle of cosign 2.
        return _blob_signer(sha256, base64.b64decode(bundle["base64Signature"]), keys)
    return _envelope_signer(sha256, bundle["dsseEnvelope"], keys)


def _blob_signer(sha256: str, signature: bytes, keys: list[tuple[str, ec.EllipticCurvePublicKey]]) -> str:
    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    return next((name for name, key in keys if _fits(key, signature, bytes.fromhex(sha256), algorithm)), "")


def _envelope_signer(sha256: str, envelope: dict[str, Any], keys: list[tuple[str, ec.EllipticCurvePublicKey]]) -> str:
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    name = next((name for name, key in keys if _fits(key, signature, signed, ec.ECDSA(_HASHES[key.key_size]))), "")
    if not name:
        return ""
    statement = json.loads(payload)
    if kind != _IN_TOTO or statement["predicateType"] != _MODEL_SIGNING:
        raise RefusedError("SignatureInvalid", f"what is signed is no model: {statement['predicateType']}")
    resources = statement["predicate"]["resources"]
    if not any(each["algorithm"] == "sha256" and each["digest"] == sha256 for each in resources):
        raise RefusedError("SignatureInvalid", f"its signature, by {name}, is of other files: sign this one")
    return name


def _fits(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes, algorithm: ec.ECDSA) -> bool:
    try:
        key.verify(signature, signed, algorithm)
    except InvalidSignature:
        return False
    return True


def _bare(document: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(document.split()), validate=True)
    except binascii.Error:
        return document


def _public_key(key: PublicKey) -> ec.EllipticCurvePublicKey:
    try:
        loaded = serialization.load_pem_public_key(key.pem.encode())
    except ValueError as error:
        raise RefusedError("Invalid", f"the installation's public key {key.name} is no PEM public key") from error
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or loaded.key_size not in _HASHES:
        raise RefusedError(
            "Invalid", f"the installation's public key {key.name} must be of ECDSA P-256, P-384 or P-521"
        )
    return loaded
