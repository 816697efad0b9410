"""The store's code against a real S3 server: reading, resuming, refusals, and what a step writes."""

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster import programs
from e2e.cluster.commands import wait_until
from modelfleet.api.wire import FetchItem, StoredFile
from modelfleet.runtime import fetch as fetching
from modelfleet.runtime import store, verify
from modelfleet.runtime.report import Exit, RefusedError

CONTENT = bytes(range(256)) * 100_000
"""More than two ranged reads."""
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URI = "s3://models/a/model.onnx"


@dataclass
class Server:
    """A running versitygw with one bucket, ``models``."""

    folder: Path
    endpoint: str
    process: subprocess.Popen[bytes]

    def secret(self, **changes: str) -> str:
        """A mounted Secret for it, as a folder."""
        keys = {
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "tester-secret",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }
        folder = self.folder / f"secret-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        for name, value in (keys | changes).items():
            (folder / name).write_text(value)
        return str(folder)


@pytest.fixture
def server(tmp_path: Path, say: Callable[[str], None]) -> Iterator[Server]:
    (tmp_path / "store" / "models").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [programs.find("versitygw", say), f"--port=127.0.0.1:{port}", "--quiet", "posix", tmp_path / "store"],
        env=os.environ | {"ROOT_ACCESS_KEY_ID": "tester", "ROOT_SECRET_ACCESS_KEY": "tester-secret"},
    )

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, "the S3 server to answer", 30)
    yield Server(tmp_path, f"http://127.0.0.1:{port}", process)
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 0.001)


def stored(secret: str, **changes: object) -> StoredFile:
    fields = {"name": "fp32", "uri": URI, "sha256": DIGEST, "size_bytes": len(CONTENT), "credentials_path": secret}
    return StoredFile.model_validate(fields | changes)


def wanted(server: Server, secret: str) -> FetchItem:
    return FetchItem(**stored(secret).model_dump(), path=str(server.folder / "device" / "model.onnx"))


def test_what_a_step_writes_is_fetched_and_verified(server: Server) -> None:
    secret = server.secret()
    source = server.folder / "source"
    source.write_bytes(CONTENT)
    store.write(URI, source, secret)
    store.write("s3://models/a/results.json", b"{}", secret)
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
        assert stream.offset == 20_000_000
        assert b"".join(stream.blocks) == CONTENT[20_000_000:]
    assert fetching.fetch(item).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("uri", "keys", "reason", "hint"),
    [
        ("s3://models/a/gone.onnx", {}, "Unreachable", "not found"),
        ("s3://nowhere/a/model.onnx", {}, "Unreachable", "not found"),
        (URI, {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "Unauthorized", "refused access"),
        (URI, {"AWS_ACCESS_KEY_ID": "stranger"}, "Unauthorized", "refused access"),
        (URI, {"AWS_ACCESS_KEY_ID": ""}, "Unauthorized", "refused access"),
    ],
    ids=["no-object", "no-bucket", "wrong-secret", "unknown-key", "anonymous"],
)
def test_a_refusal_has_its_reason_and_no_secret(
    server: Server, uri: str, keys: dict[str, str], reason: str, hint: str
) -> None:
    store.write(URI, CONTENT, server.secret())
    found = verify.verify(stored(server.secret(**keys), uri=uri))
    assert (found.verified, found.reason) == (False, reason)
    assert hint in found.message
    assert "wrong-secret" not in found.message


@pytest.mark.parametrize(("content", "reason"), [(CONTENT[:-1], "SizeMismatch"), (CONTENT[:-1] + b"!", "HashMismatch")])
def test_other_bytes_are_refused(server: Server, content: bytes, reason: str) -> None:
    secret = server.secret()
    store.write(URI, content, secret)
    assert verify.verify(stored(secret)).reason == reason


def test_a_store_that_is_down_is_left_for_later(server: Server) -> None:
    secret = server.secret()
    server.process.kill()
    server.process.wait()
    with pytest.raises(RefusedError) as caught:
        fetching.fetch(wanted(server, secret))
    assert (caught.value.reason, caught.value.exit_code) == ("Unreachable", Exit.TRY_AGAIN)
