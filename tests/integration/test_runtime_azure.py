"""The store's code against Azurite, a real server of Azure's blob storage: keys, shared access signatures, refusals."""

import base64
import hashlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.cluster import node_programs
from e2e.cluster.commands import wait_until
from modelfleet.api.wire import FetchFolder, FetchItem, PullOrder, StoredFile
from modelfleet.runtime import dvc_pull, store, verify
from modelfleet.runtime import fetch as fetching
from modelfleet.runtime.report import Exit, RefusedError
from tests.dvc_project import REMOTE, write

CONTENT = bytes(range(256)) * 100_000
"""More than two ranged reads."""
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URI = "abfs://models/a/model.onnx"
ACCOUNT = "tester"
KEY, OTHER_KEY = (base64.b64encode(text * 4).decode() for text in (b"testers own key ", b"a strangers key "))


@dataclass
class Server:
    """An account of a running Azurite, with one container, ``models``."""

    folder: Path
    endpoint: str

    def connection(self, **parts: str) -> str:
        """A connection string, as Azure's portal shows it."""
        return ";".join(f"{name}={value}" for name, value in {"BlobEndpoint": self.endpoint, **parts}.items())

    def secret(self, connection: str = "", **keys: str) -> str:
        """A mounted Secret for it; of the account's own key where nothing else is said."""
        held = connection or self.connection(AccountName=ACCOUNT, AccountKey=KEY)
        folder = self.folder / f"secret-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        for name, value in (keys or {"AZURE_STORAGE_CONNECTION_STRING": held}).items():
            (folder / name).write_text(value)
        return str(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]) -> Iterator[str]:
    """The endpoint of a running Azurite."""
    port = free_port()
    process = subprocess.Popen(
        [
            *node_programs.find("azurite", "azurite-blob", say),
            *("--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"),
            *("--blobPort", str(port), "--location", tmp_path_factory.mktemp("azurite")),
        ],
        env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
    )

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def runs() -> None:
        assert process.poll() is None, "Azurite ended: its words are above"

    wait_until(answers, "Azurite to answer", 60, runs)
    yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    process.kill()
    process.wait()


@pytest.fixture
def server(azurite: str, tmp_path: Path) -> Iterator[Server]:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient(azurite, {"account_name": ACCOUNT, "account_key": KEY}) as client:
        client.create_container("models")
        yield Server(tmp_path, azurite)
        client.delete_container("models")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 0.001)


def stored(secret: str, uri: str = URI) -> StoredFile:
    return StoredFile(name="fp32", uri=uri, sha256=DIGEST, size_bytes=len(CONTENT), credentials_path=secret)


def wanted(server: Server, secret: str) -> FetchItem:
    return FetchItem(**stored(secret).model_dump(), path=str(server.folder / "device" / "model.onnx"))


def signature(permission: str, lasts: timedelta = timedelta(hours=1)) -> str:
    """A shared access signature of the account, without the question mark."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    return generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(container=True, object=True),
        AccountSasPermissions.from_string(permission),
        expiry=datetime.now(UTC) + lasts,
    )


def test_what_a_step_writes_is_fetched_and_verified(server: Server) -> None:
    secret = server.secret()
    source = server.folder / "source"
    source.write_bytes(CONTENT)
    store.write(URI, source, secret)
    store.write(URI, source, secret)  # again, as after a lost answer
    store.write("abfs://models/a/results.json", b"{}", secret)
    assert fetching.fetch(wanted(server, secret)).read_bytes() == CONTENT
    assert verify.verify(stored(secret)).verified
    assert verify.verify(stored(secret, f"abfs://models@{ACCOUNT}.dfs.core.windows.net/a/model.onnx")).verified


def test_a_part_is_resumed(server: Server) -> None:
    secret = server.secret()
    store.write(URI, CONTENT, secret)
    item = wanted(server, secret)
    Path(item.path).parent.mkdir()
    Path(item.path + ".part").write_bytes(CONTENT[:20_000_000])
    with store.reading(URI, secret, offset=20_000_000) as stream:
        assert b"".join(stream.blocks) == CONTENT[20_000_000:]
    assert fetching.fetch(item).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "uri",
    ["abfs://models/backbone", "abfs://models/backbone/", f"abfs://models@{ACCOUNT}.dfs.core.windows.net/backbone"],
)
def test_a_folder_is_brought_and_a_file_as_well(server: Server, uri: str) -> None:
    secret = server.secret()
    files = {"config.json": b"{}", "onnx/model.onnx": b"onnx"}
    for name, content in files.items():
        store.write(f"abfs://models/backbone/{name}", content, secret)
    store.write("abfs://models/backbone-2/other", b"", secret)
    place = server.folder / "model"
    fetching.fetch_folder(FetchFolder(name="model", uri=uri, path=str(place), credentials_path=secret))
    assert {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()} == files
    assert store.find("abfs://models/backbone/config.json", secret).keys() == {"config.json"}


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("abfs://models/a/gone.onnx", "not found"),
        ("abfs://nowhere/a/model.onnx", "not found"),
        ("abfs://models/a", "is a folder"),
    ],
    ids=["no-object", "no-container", "folder"],
)
def test_what_is_not_there_is_told(server: Server, uri: str, hint: str) -> None:
    secret = server.secret()
    store.write(URI, CONTENT, secret)
    found = verify.verify(stored(secret, uri))
    assert (found.reason, hint in found.message) == ("Unreachable", True), found.message


def test_data_of_dvc_is_pulled(server: Server) -> None:
    secret, folder = server.secret(), server.folder / "source"
    for name, stored_bytes in REMOTE.items():
        store.write(f"abfs://models/dvc/{name}", stored_bytes, secret)
    write(folder, "azure://models/dvc")
    assert dvc_pull.pull(folder, folder, PullOrder(credentials_path=secret)) == 4
    assert (folder / "data/images/deep/b.bin").read_bytes() == b"two\n"


@pytest.mark.parametrize(("content", "reason"), [(CONTENT[:-1], "SizeMismatch"), (CONTENT[:-1] + b"!", "HashMismatch")])
def test_other_bytes_are_refused(server: Server, content: bytes, reason: str) -> None:
    secret = server.secret()
    store.write(URI, content, secret)
    assert verify.verify(stored(secret)).reason == reason


def test_a_signature_opens_what_it_permits(server: Server) -> None:
    store.write(URI, CONTENT, server.secret())
    reader = server.secret(server.connection(SharedAccessSignature=signature("rl")))
    assert verify.verify(stored(reader)).verified
    with pytest.raises(RefusedError) as caught:
        store.write(URI, b"other", reader)
    assert caught.value.reason == "Unauthorized"


@pytest.mark.parametrize("held", ["wrong-key", "broken-key", "expired", "stranger", "no-account"])
def test_a_refusal_has_its_reason_and_no_secret(server: Server, held: str) -> None:
    store.write(URI, CONTENT, server.secret())
    expired = signature("rl", timedelta(hours=-1))
    secret = {
        "wrong-key": lambda: server.secret(server.connection(AccountName=ACCOUNT, AccountKey=OTHER_KEY)),
        "broken-key": lambda: server.secret(server.connection(AccountName=ACCOUNT, AccountKey="n0base64!")),
        "expired": lambda: server.secret(server.connection(SharedAccessSignature=expired)),
        "stranger": lambda: server.secret(server.connection()),
        "no-account": lambda: server.secret(AZURE_STORAGE_ACCOUNT_KEY=OTHER_KEY),
    }[held]()
    found = verify.verify(stored(secret))
    assert (found.verified, found.reason) == (False, "Unauthorized"), found.message
    assert not any(word in found.message for word in (KEY, OTHER_KEY, "n0base64", "sig="))


def test_a_store_that_is_down_is_left_for_later(tmp_path: Path) -> None:
    server = Server(tmp_path, f"http://127.0.0.1:{free_port()}/{ACCOUNT}")
    with pytest.raises(RefusedError) as caught:
        fetching.fetch(wanted(server, server.secret()))
    assert (caught.value.reason, caught.value.exit_code) == ("Unreachable", Exit.TRY_AGAIN)
