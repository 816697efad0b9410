"""Real servers of the stores that artifacts lie in, each with one bucket or container, ``models``."""

import base64
import json
import os
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from e2e.cluster import node_programs, programs
from e2e.cluster.commands import wait_until
from modelfleet.api.wire import FetchFolder, FetchItem, StoredFile
from modelfleet.runtime import fetch as fetching
from modelfleet.runtime import store

Say = Callable[[str], None]

CONTENT = bytes(range(256)) * 100_000
"""More than two ranged reads."""
DIGEST = sha256(CONTENT).hexdigest()

ACCOUNT = "tester"
KEY = base64.b64encode(b"testers own key " * 4).decode()
"""Of the account in Azure's storage."""


@dataclass
class Place(ABC):
    """A running server, and a folder for what a test needs beside."""

    folder: Path
    endpoint: str
    scheme: ClassVar[str]
    dvc_scheme: ClassVar[str]
    """As DVC calls it."""

    @abstractmethod
    def secret(self, *, endpoint: str = "") -> str:
        """A mounted Secret that opens it, as a folder; of a server elsewhere, where one is named."""

    @abstractmethod
    def holds(self, path: str) -> bytes:
        """An object's bytes, asked of the server and not of the code under test."""

    def uri(self, path: str = "a/model.onnx") -> str:
        """Of an object in the bucket."""
        return f"{self.scheme}://models/{path}"

    def mounted(self, keys: Mapping[str, str]) -> str:
        """A Secret with these keys, as a folder."""
        folder = self.folder / f"secret-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        for name, value in keys.items():
            (folder / name).write_text(value)
        return str(folder)

    def stored(self, secret: str, uri: str = "") -> StoredFile:
        """The artifact as it was registered."""
        return StoredFile(
            name="fp32", uri=uri or self.uri(), sha256=DIGEST, size_bytes=len(CONTENT), credentials_path=secret
        )

    def wanted(self, secret: str) -> FetchItem:
        """The artifact, to be fetched to a device."""
        return FetchItem(**self.stored(secret).model_dump(), path=str(self.folder / "device" / "model.onnx"))


class OnDisk(Place):
    """One that keeps an object as a file."""

    def holds(self, path: str) -> bytes:
        """As it lies on the disk."""
        return (self.folder / "store" / "models" / path).read_bytes()


class S3(OnDisk):
    """A versitygw."""

    scheme = dvc_scheme = "s3"

    def secret(self, *, endpoint: str = "", **changes: str) -> str:
        """Of the server's own account, but for what is changed."""
        keys = {
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "tester-secret",
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_REGION": "us-east-1",
        }
        return self.mounted(keys | changes)


class Google(OnDisk):
    """A fake-gcs-server: it asks nobody for credentials."""

    scheme = dvc_scheme = "gs"

    def secret(self, *, endpoint: str = "", key: str = "") -> str:
        """Without a key, or with one."""
        options = {"storage_options.json": json.dumps({"endpoint_url": endpoint or self.endpoint})}
        return self.mounted(options | ({"key.json": key} if key else {}))


class Azure(Place):
    """An account of an Azurite."""

    scheme, dvc_scheme = "abfs", "azure"

    def connection(self, *, endpoint: str = "", **parts: str) -> str:
        """A connection string, as Azure's portal shows it."""
        return ";".join(
            f"{name}={value}" for name, value in {"BlobEndpoint": endpoint or self.endpoint, **parts}.items()
        )

    def secret(self, *, endpoint: str = "", connection: str = "") -> str:
        """Of the account's own key where nothing else is said."""
        own = self.connection(endpoint=endpoint, AccountName=ACCOUNT, AccountKey=KEY)
        return self.mounted({"AZURE_STORAGE_CONNECTION_STRING": connection or own})

    def holds(self, path: str) -> bytes:
        """By Azure's own client."""
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient(self.endpoint, {"account_name": ACCOUNT, "account_key": KEY}) as client:
            return bytes(client.get_blob_client("models", path).download_blob().readall())


def backbone(place: Place, secret: str) -> dict[str, bytes]:
    """Put a folder ``backbone`` there, and one beside it whose name begins alike; its files."""
    files = {"config.json": b"{}", "onnx/model.onnx": b"onnx"}
    for name, content in files.items():
        store.write(place.uri(f"backbone/{name}"), content, secret)
    store.write(place.uri("backbone-2/other"), b"", secret)
    return files


def brought(place: Place, secret: str, uri: str) -> dict[str, bytes]:
    """The files that a device fetches of a folder."""
    to = place.folder / "model"
    fetching.fetch_folder(FetchFolder(name="model", uri=uri, path=str(to), credentials_path=secret))
    return {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()}


@contextmanager
def serving_s3(folder: Path, say: Say) -> Iterator[str]:
    """Its endpoint; the bucket lies below ``store``."""
    (folder / "store" / "models").mkdir(parents=True)
    port = free_port()
    command = [programs.find("versitygw", say), f"--port=127.0.0.1:{port}", "--quiet", "posix", folder / "store"]
    account = {"ROOT_ACCESS_KEY_ID": "tester", "ROOT_SECRET_ACCESS_KEY": "tester-secret"}
    with _running(command, port, account):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def serving_google(folder: Path, say: Say) -> Iterator[str]:
    """Its endpoint; the bucket lies below ``store``."""
    (folder / "store" / "models").mkdir(parents=True)
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        programs.find("fake-gcs-server", say),
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-external-url", endpoint),
        *("-filesystem-root", folder / "store", "-log-level", "error"),
    ]
    with _running(command, port):
        yield endpoint


@contextmanager
def serving_azure(folder: Path, say: Say) -> Iterator[str]:
    """The account's endpoint; there is no container yet."""
    port = free_port()
    command = [
        *node_programs.find("azurite", "azurite-blob", say),
        *("--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"),
        *("--blobPort", str(port), "--location", folder),
    ]
    with _running(command, port, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[Any], port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, env=os.environ | (environment or {}))

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def runs() -> None:
        assert process.poll() is None, f"{command[0]} ended: its words are above"

    try:
        wait_until(answers, f"{command[0]} to answer", 60, runs)
        yield
    finally:
        process.kill()
        process.wait()
