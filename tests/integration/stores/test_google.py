"""What is Google's own: fake-gcs-server, a real server of its storage API, asks nobody for credentials.

So tokens are tried on a server of the token protocol, and refusals of the storage on one that refuses everybody.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e import http_server
from modelfleet.runtime import store, verify
from tests.integration.stores.places import CONTENT, Google


@contextmanager
def answering(status: int, content: object) -> Iterator[tuple[str, list[str]]]:
    """A server that gives every request the same answer; its address, and the Authorization headers it saw."""
    body, seen = json.dumps(content).encode(), []

    class Handler(http_server.Handler):
        def get(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.body()
            self.answer(status, body, {"Content-Type": "application/json"})

        post = get

    with http_server.answering(Handler) as address:
        yield address, seen


def key(token_uri: str) -> str:
    """A service account's key, as Google hands it out."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "robot@vision.example", "private_key_id": "1"}
    return json.dumps(account | {"private_key": private.decode(), "token_uri": token_uri, "project_id": "vision"})


def test_a_service_accounts_key_becomes_a_token(google: Google) -> None:
    store.write(google.uri(), CONTENT, google.secret())
    granted = {"access_token": "ya29.t0ken", "expires_in": 3600, "token_type": "Bearer"}
    with answering(200, granted) as (tokens, asked), answering(403, {"error": {"message": "no"}}) as (refusing, seen):
        assert verify.verify(google.stored(google.secret(key=key(tokens)))).verified
        assert asked
        refused = verify.verify(google.stored(google.secret(key=key(tokens), endpoint=refusing)))
    assert (refused.reason, set(seen)) == ("Unauthorized", {"Bearer ya29.t0ken"})


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "Anonymous caller does not have storage.objects.get access"), (403, "Forbidden to you")],
)
def test_a_stranger_is_told_to_bring_a_secret(google: Google, status: int, said: str) -> None:
    with answering(status, {"error": {"code": status, "message": said}}) as (refusing, _):
        found = verify.verify(google.stored(google.secret(endpoint=refusing)))
    assert (found.reason, "check the Secret" in found.message) == ("Unauthorized", True), found.message


@pytest.mark.parametrize("bad", ["/home/me/key.json", '{"type": "service_account"}', '{"type": "external_account"}'])
def test_a_key_that_is_none_is_unauthorized(google: Google, bad: str) -> None:
    assert verify.verify(google.stored(google.secret(key=bad))).reason == "Unauthorized"


def test_a_key_that_was_withdrawn_is_unauthorized_at_once(google: Google) -> None:
    with answering(400, {"error": "invalid_grant", "error_description": "account not found"}) as (tokens, asked):
        found = verify.verify(google.stored(google.secret(key=key(tokens))))
    assert (found.reason, len(asked)) == ("Unauthorized", 1), found.message
    assert "PRIVATE KEY" not in found.message
