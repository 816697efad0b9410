"""The store's code against fake-gcs-server, a real server of Google's storage API; it asks nobody for credentials.

So tokens are tried on a server of the token protocol, and refusals of the storage on one that refuses everybody.
"""

import hashlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e import http_server
from e2e.cluster import programs
from e2e.cluster.commands import wait_until
from modelfleet.api.wire import FetchFolder, FetchItem, PullOrder, StoredFile
from modelfleet.runtime import dvc_pull, store, verify
from modelfleet.runtime import fetch as fetching
from modelfleet.runtime.report import Exit, RefusedError
from tests.dvc_project import REMOTE, write

CONTENT = bytes(range(256)) * 100_000
"""More than two ranged reads."""
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URI = "gs://models/a/model.onnx"


@dataclass
class Server:
    """A running fake-gcs-server with one bucket, ``models``."""

    folder: Path
    endpoint: str
    process: subprocess.Popen[bytes]

    def secret(self, key: str = "", endpoint: str = "") -> str:
        """A mounted Secret for it."""
        folder = self.folder / f"secret-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        (folder / "storage_options.json").write_text(json.dumps({"endpoint_url": endpoint or self.endpoint}))
        if key:
            (folder / "key.json").write_text(key)
        return str(folder)


@pytest.fixture
def server(tmp_path: Path, say: Callable[[str], None]) -> Iterator[Server]:
    (tmp_path / "store" / "models").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            programs.find("fake-gcs-server", say),
            *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-external-url", endpoint),
            *("-filesystem-root", tmp_path / "store", "-log-level", "error"),
        ]
    )

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, "the server to answer", 30)
    yield Server(tmp_path, endpoint, process)
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio
    import types

    import gcsfs.retry

    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(**(vars(asyncio) | {"sleep": at_once})))


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


def stored(secret: str, uri: str = URI) -> StoredFile:
    return StoredFile(name="fp32", uri=uri, sha256=DIGEST, size_bytes=len(CONTENT), credentials_path=secret)


def wanted(server: Server, secret: str) -> FetchItem:
    return FetchItem(**stored(secret).model_dump(), path=str(server.folder / "device" / "model.onnx"))


def test_what_a_step_writes_is_fetched_and_verified(server: Server) -> None:
    secret = server.secret()
    source = server.folder / "source"
    source.write_bytes(CONTENT)
    store.write(URI, source, secret)
    store.write(URI, source, secret)  # again, as after a lost answer
    store.write("gs://models/a/results.json", b"{}", secret)
    assert (server.folder / "store/models/a/results.json").read_bytes() == b"{}"
    assert fetching.fetch(wanted(server, secret)).read_bytes() == CONTENT
    assert verify.verify(stored(secret)).verified


def test_a_part_is_resumed(server: Server) -> None:
    secret = server.secret()
    store.write(URI, CONTENT, secret)
    item = wanted(server, secret)
    Path(item.path).parent.mkdir()
    Path(item.path + ".part").write_bytes(CONTENT[:20_000_000])
    with store.reading(URI, secret, offset=20_000_000) as stream:
        assert b"".join(stream.blocks) == CONTENT[20_000_000:]
    assert fetching.fetch(item).read_bytes() == CONTENT


@pytest.mark.parametrize("uri", ["gs://models/backbone", "gs://models/backbone/"])
def test_a_folder_is_brought_and_a_file_as_well(server: Server, uri: str) -> None:
    secret = server.secret()
    files = {"config.json": b"{}", "onnx/model.onnx": b"onnx"}
    for name, content in files.items():
        store.write(f"gs://models/backbone/{name}", content, secret)
    store.write("gs://models/backbone-2/other", b"", secret)
    place = server.folder / "model"
    fetching.fetch_folder(FetchFolder(name="model", uri=uri, path=str(place), credentials_path=secret))
    assert {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()} == files
    assert store.find("gs://models/backbone/config.json", secret).keys() == {"config.json"}


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("gs://models/a/gone.onnx", "not found"),
        ("gs://nowhere/a/model.onnx", "not found"),
        ("gs://models/a", "is a folder"),
    ],
    ids=["no-object", "no-bucket", "folder"],
)
def test_what_is_not_there_is_told(server: Server, uri: str, hint: str) -> None:
    secret = server.secret()
    store.write(URI, CONTENT, secret)
    found = verify.verify(stored(secret, uri))
    assert (found.reason, hint in found.message) == ("Unreachable", True), found.message


def test_data_of_dvc_is_pulled(server: Server) -> None:
    secret, folder = server.secret(), server.folder / "source"
    for name, stored_bytes in REMOTE.items():
        store.write(f"gs://models/dvc/{name}", stored_bytes, secret)
    write(folder, "gs://models/dvc")
    assert dvc_pull.pull(folder, folder, PullOrder(credentials_path=secret)) == 4
    assert (folder / "data/images/deep/b.bin").read_bytes() == b"two\n"


@pytest.mark.parametrize(("content", "reason"), [(CONTENT[:-1], "SizeMismatch"), (CONTENT[:-1] + b"!", "HashMismatch")])
def test_other_bytes_are_refused(server: Server, content: bytes, reason: str) -> None:
    secret = server.secret()
    store.write(URI, content, secret)
    assert verify.verify(stored(secret)).reason == reason


def test_a_service_accounts_key_becomes_a_token(server: Server) -> None:
    store.write(URI, CONTENT, server.secret())
    granted = {"access_token": "ya29.t0ken", "expires_in": 3600, "token_type": "Bearer"}
    with answering(200, granted) as (tokens, asked), answering(403, {"error": {"message": "no"}}) as (refusing, seen):
        assert verify.verify(stored(server.secret(key(tokens)))).verified
        assert asked
        refused = verify.verify(stored(server.secret(key(tokens), refusing)))
    assert (refused.reason, set(seen)) == ("Unauthorized", {"Bearer ya29.t0ken"})


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "Anonymous caller does not have storage.objects.get access"), (403, "Forbidden to you")],
)
def test_a_stranger_is_told_to_bring_a_secret(server: Server, status: int, said: str) -> None:
    with answering(status, {"error": {"code": status, "message": said}}) as (refusing, _):
        found = verify.verify(stored(server.secret(endpoint=refusing)))
    assert (found.reason, "check the Secret" in found.message) == ("Unauthorized", True), found.message


@pytest.mark.parametrize("bad", ["/home/me/key.json", '{"type": "service_account"}', '{"type": "external_account"}'])
def test_a_key_that_is_none_is_unauthorized(server: Server, bad: str) -> None:
    assert verify.verify(stored(server.secret(bad))).reason == "Unauthorized"


def test_a_key_that_was_withdrawn_is_unauthorized_at_once(server: Server) -> None:
    with answering(400, {"error": "invalid_grant", "error_description": "account not found"}) as (tokens, asked):
        found = verify.verify(stored(server.secret(key(tokens))))
    assert (found.reason, len(asked)) == ("Unauthorized", 1), found.message
    assert "PRIVATE KEY" not in found.message


def test_a_store_that_is_down_is_left_for_later(server: Server) -> None:
    secret = server.secret()
    server.process.kill()
    server.process.wait()
    with pytest.raises(RefusedError) as caught:
        fetching.fetch(wanted(server, secret))
    assert (caught.value.reason, caught.value.exit_code) == ("Unreachable", Exit.TRY_AGAIN)
