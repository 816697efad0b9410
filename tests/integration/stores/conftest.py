"""A running server for each kind of store, and all of them in turn."""

import asyncio
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelfleet.runtime import store
from tests.integration.stores import places
from tests.integration.stores.places import ACCOUNT, KEY, S3, Azure, Google, Place


@pytest.fixture
def s3(tmp_path: Path, say: Callable[[str], None]) -> Iterator[S3]:
    with places.serving_s3(tmp_path, say) as endpoint:
        yield S3(tmp_path, endpoint)


@pytest.fixture
def google(tmp_path: Path, say: Callable[[str], None]) -> Iterator[Google]:
    with places.serving_google(tmp_path, say) as endpoint:
        yield Google(tmp_path, endpoint)


@pytest.fixture(scope="package")
def azurite(tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]) -> Iterator[str]:
    """The account's endpoint."""
    with places.serving_azure(tmp_path_factory.mktemp("azurite"), say) as endpoint:
        yield endpoint


@pytest.fixture
def azure(azurite: str, tmp_path: Path) -> Iterator[Azure]:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient(azurite, {"account_name": ACCOUNT, "account_key": KEY}) as client:
        client.create_container("models")
        yield Azure(tmp_path, azurite)
        client.delete_container("models")


@pytest.fixture(params=["s3", "google", "azure"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ours nor those of the stores' drivers."""
    import gcsfs.retry
    import huggingface_hub.utils._http as hub

    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(**(vars(asyncio) | {"sleep": at_once})))
    monkeypatch.setattr(hub.time, "sleep", lambda _: None)
