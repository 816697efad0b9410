"""Signatures as the usual tools write them, made here with OpenSSL and kept from ``model_signing`` 1.1.1."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import http_server
from modelfleet.api.wire import CheckedFile, PublicKey, SigningCheck
from modelfleet.runtime import signing, verify
from modelfleet.runtime.report import RefusedError

CONTENT = b"a model"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def openssl(*words: str | Path, content: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], input=content, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    return path


@pytest.fixture(scope="module")
def public(private: Path) -> PublicKey:
    return PublicKey(name="release", pem=openssl("pkey", "-in", private, "-pubout").decode())


@pytest.fixture(scope="module")
def signature(private: Path) -> bytes:
    return openssl("dgst", "-sha256", "-sign", private, content=CONTENT)


@pytest.fixture(scope="module")
def stranger() -> PublicKey:
    private = openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout")
    return PublicKey(name="stranger", pem=openssl("pkey", "-pubout", content=private).decode())


def message_bundle(signature: bytes) -> bytes:
    body = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": base64.b64encode(bytes.fromhex(DIGEST)).decode()},
            "signature": base64.b64encode(signature).decode(),
        },
    }
    return json.dumps(body).encode()


def envelope(private: Path, **changes: Any) -> bytes:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": "0" * 64}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [
                {"name": "other", "algorithm": "sha256", "digest": "1" * 64},
                {"name": "m.onnx", "algorithm": "sha256", "digest": DIGEST},
            ]
        },
        **changes,
    }
    payload, kind = json.dumps(statement).encode(), "application/vnd.in-toto+json"
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    made = openssl("dgst", "-sha256", "-sign", private, content=signed)
    body = {"payload": base64.b64encode(payload).decode(), "payloadType": kind}
    return json.dumps({"dsseEnvelope": body | {"signatures": [{"sig": base64.b64encode(made).decode()}]}}).encode()


def test_every_form_is_taken(signature: bytes, private: Path, public: PublicKey, stranger: PublicKey) -> None:
    encoded = base64.b64encode(signature)
    forms = [
        signature,
        encoded + b"\n",
        message_bundle(signature),
        json.dumps({"base64Signature": encoded.decode(), "cert": ""}).encode(),
        envelope(private),
    ]
    assert {signing.signer(DIGEST, form, [stranger, public]) for form in forms} == {"release"}


def test_a_signature_of_the_real_model_signing_is_taken() -> None:
    """Made by its version 1.1.1: ``model_signing sign key`` over a folder with two files, ``a model`` one of them."""
    folder = Path(__file__).with_name("signatures")
    key = PublicKey(name="release", pem=(folder / "release.pub").read_text())
    document = (folder / "model.sig").read_bytes()
    assert signing.signer(DIGEST, document, [key]) == "release"
    with pytest.raises(RefusedError, match="of other files"):
        signing.signer("0" * 64, document, [key])


def test_of_another_file_or_key_none_is(
    signature: bytes, private: Path, public: PublicKey, stranger: PublicKey
) -> None:
    other = hashlib.sha256(b"another model").hexdigest()
    for form in (signature, base64.b64encode(signature), message_bundle(signature), envelope(private)):
        for digest, keys in ((other, [public]), (DIGEST, [stranger]), (DIGEST, [])):
            with pytest.raises(RefusedError) as caught:
                signing.signer(digest, form, keys)
            assert caught.value.reason == "SignatureInvalid"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"{",
        b"[1]",
        b"AAAA",
        b"\xff\xfe",
        b'{"dsseEnvelope": {}}',
        b'{"messageSignature": {"signature": 1}}',
    ],
)
def test_what_is_no_signature_is_refused_as_one(document: bytes, public: PublicKey) -> None:
    with pytest.raises(RefusedError) as caught:
        signing.signer(DIGEST, document, [public])
    assert caught.value.reason == "SignatureInvalid"


def test_a_statement_about_something_else_is_refused(private: Path, public: PublicKey) -> None:
    for changes in ({"predicateType": "https://slsa.dev/provenance/v1"}, {"predicate": {"resources": []}}):
        with pytest.raises(RefusedError, match=r"no model|other files"):
            signing.signer(DIGEST, envelope(private, **changes), [public])


@pytest.mark.parametrize("kind", ["nothing", "an RSA key"])
def test_a_key_that_cannot_be_used_is_named(kind: str, signature: bytes) -> None:
    pem = "x"
    if kind == "an RSA key":
        pem = openssl("pkey", "-pubout", content=openssl("genrsa", "2048")).decode()
    with pytest.raises(RefusedError, match="public key mine"):
        signing.signer(DIGEST, signature, [PublicKey(name="mine", pem=pem)])


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """A Secret for a store that answers as S3 does, of what is missing, to a key that may not list: 403."""

    class Handler(http_server.Handler):
        def do_HEAD(self) -> None:  # noqa: N802 (as http.server names it)
            self.answer(403)

    secret = tmp_path / "store"
    secret.mkdir()
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "eu-central-1"}
    with http_server.answering(Handler) as address:
        for name, value in {**keys, "AWS_ENDPOINT_URL": address}.items():
            (secret / name).write_text(value)
        yield str(secret)


@pytest.mark.parametrize("required", [True, False])
def test_a_store_that_does_not_tell_whether_there_is_a_signature(
    tmp_path: Path, bucket: str, public: PublicKey, required: bool
) -> None:
    """It is not taken for missing, and the message says what to do."""
    model = tmp_path / "m.onnx"
    model.write_bytes(CONTENT)
    uri = "s3://models/defect/1.4.0/m.onnx.sig"
    file = CheckedFile(name="m", uri=f"file://{model}", sha256=DIGEST, signature_uri=uri, credentials_path=bucket)
    found = verify.verify(file, None, SigningCheck(required=required, keys=[public]))
    assert (found.verified, found.reason) == (False, "Unauthorized")
    assert found.message == (
        f"access to its signature {uri} is refused; S3 says so of a missing file, too, without s3:ListBucket:"
        " grant that, or sign the artifact"
    )


@pytest.mark.parametrize("required", [True, False])
def test_the_signature_lies_beside_the_file(
    tmp_path: Path, signature: bytes, public: PublicKey, stranger: PublicKey, required: bool
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(CONTENT)
    uri = f"file://{model}"
    file = CheckedFile(name="m", uri=uri, sha256=DIGEST, size_bytes=len(CONTENT), signature_uri=f"{uri}.sig")
    check = SigningCheck(required=required, keys=[public])
    found = verify.verify(file, None, check)
    assert (found.verified, found.reason) == ((False, "Unsigned") if required else (True, None))
    (tmp_path / "m.onnx.sig").write_bytes(base64.b64encode(signature))
    assert verify.verify(file, None, check).signed_by == "release"
    found = verify.verify(file, None, SigningCheck(required=required, keys=[stranger]))
    assert (found.verified, found.reason) == (False, "SignatureInvalid")
    (tmp_path / "m.onnx.sig").write_bytes(b"x" * (signing.LONGEST + 1))
    assert "longer than any signature" in verify.verify(file, None, check).message
