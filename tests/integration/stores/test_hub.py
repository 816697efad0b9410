"""The store's code against a server that speaks Hugging Face's Hub's routes (``tests/hub_server.py``; not the Hub)."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelfleet.api.wire import FetchFolder, FetchItem, FetchOrder, StoredFile
from modelfleet.runtime import fetch as fetching
from modelfleet.runtime import store, verify
from modelfleet.runtime.report import Exit, RefusedError
from tests.hub_server import FIRST, SECOND, Hub, serving

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URI = "hf://org/backbone/onnx/model.onnx"
ENTRANCE = "hf_s3cr3tt0ken"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        hub.commits[FIRST] = {"config.json": b"{}", "onnx/model.onnx": CONTENT, "onnx/a b.json": b"1", "x.txt": b"x"}
        yield hub


def secret(folder: Path, hub: Hub, token: str = "") -> str:
    """A mounted Secret."""
    place = folder / f"secret-{token}"
    place.mkdir(exist_ok=True)
    (place / "HF_ENDPOINT").write_text(hub.address)
    if token:
        (place / "HF_TOKEN").write_text(token)
    return str(place)


def stored(credentials_path: str, uri: str = URI) -> StoredFile:
    return StoredFile(name="fp32", uri=uri, sha256=DIGEST, size_bytes=len(CONTENT), credentials_path=credentials_path)


def wanted(folder: Path, credentials_path: str) -> FetchItem:
    return FetchItem(**stored(credentials_path).model_dump(), path=str(folder / "device" / "model.onnx"))


def test_a_file_is_fetched_over_one_connection_and_verified(hub: Hub, tmp_path: Path) -> None:
    held = secret(tmp_path, hub)
    assert fetching.fetch(wanted(tmp_path, held)).read_bytes() == CONTENT
    assert hub.downloads() == ["model.onnx"]
    assert verify.verify(stored(held)).verified
    assert verify.verify(stored(held, f"hf://org/backbone@{FIRST}/onnx/model.onnx")).verified


def test_a_cut_download_is_resumed(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [1_500_000, 2_000_000]
    item = wanted(tmp_path, secret(tmp_path, hub))
    assert fetching.fetch(item).read_bytes() == CONTENT
    assert hub.downloads()[0] == "model.onnx"
    assert all("bytes=" in again for again in hub.downloads()[1:])


def test_a_part_of_an_earlier_run_is_kept(hub: Hub, tmp_path: Path) -> None:
    item = wanted(tmp_path, secret(tmp_path, hub))
    Path(item.path).parent.mkdir()
    Path(item.path + ".part").write_bytes(CONTENT[:3_000_000])
    assert fetching.fetch(item).read_bytes() == CONTENT
    assert hub.downloads() == ["model.onnx bytes=3000000-"]


@pytest.mark.parametrize("page", [1000, 1], ids=["one-page", "many-pages"])
def test_a_repository_is_brought_as_one_commit_has_it(hub: Hub, tmp_path: Path, page: int) -> None:
    hub.commits[SECOND] = {"config.json": b'{"newer": true}'}
    hub.page = page
    held, place = secret(tmp_path, hub), tmp_path / "model"
    found = store.find("hf://org/backbone", held)
    hub.branches["main"] = SECOND  # someone pushes between the listing and the first file
    assert found["config.json"] == f"hf://org/backbone@{FIRST}/config.json"
    hub.branches["main"] = FIRST
    fetching.fetch_folder(FetchFolder(name="model", uri="hf://org/backbone", path=str(place), credentials_path=held))
    brought = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert brought == hub.commits[FIRST]


@pytest.mark.parametrize(
    ("uri", "files"),
    [
        ("hf://org/backbone/onnx", {"model.onnx", "a b.json"}),
        ("hf://org/backbone/onnx/model.onnx", {"model.onnx"}),
        ("hf://org/backbone@release/", {"config.json"}),
        (f"hf://org/backbone@{SECOND}", {"config.json"}),
    ],
)
def test_a_folder_a_file_and_a_revision_are_found(hub: Hub, tmp_path: Path, uri: str, files: set[str]) -> None:
    hub.commits[SECOND] = {"config.json": b"{}"}
    hub.branches["release"] = SECOND
    assert store.find(uri, secret(tmp_path, hub)).keys() == files


@pytest.mark.parametrize(
    ("uri", "token", "private", "reason", "hint"),
    [
        ("hf://org/backbone/gone.onnx", "", False, "Unreachable", "not found"),
        ("hf://org/backbone@gone/onnx/model.onnx", "", False, "Unreachable", "not found"),
        ("hf://org/backbone/onnx", "", False, "Unreachable", "is a folder"),
        ("hf://org/nobody/model.onnx", "", False, "Unauthorized", "not found, or private"),
        (URI, "", True, "Unauthorized", "refused access"),
        (URI, "hf_another0ne", True, "Unauthorized", "refused access"),
        ("hf://org/nobody/model.onnx", ENTRANCE, True, "Unreachable", "not found"),
    ],
    ids=["no-file", "no-revision", "folder", "no-repository", "no-token", "wrong-token", "no-repository-with-token"],
)
def test_a_refusal_has_its_reason_and_no_secret(
    hub: Hub, tmp_path: Path, uri: str, token: str, private: bool, reason: str, hint: str
) -> None:
    hub.token = ENTRANCE if private else None
    found = verify.verify(stored(secret(tmp_path, hub, token), uri))
    assert (found.verified, found.reason) == (False, reason)
    assert hint in found.message
    assert "another0ne" not in found.message


def test_a_token_opens_a_private_repository_and_goes_to_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    hub.token = ENTRANCE
    assert verify.verify(stored(secret(tmp_path, hub, ENTRANCE))).verified
    sent = {path.startswith("/cdn/"): headers.get("authorization") for path, headers in hub.requests}
    assert sent == {False: f"Bearer {ENTRANCE}", True: None}


def test_a_hub_that_is_busy_is_asked_again_and_one_that_stays_so_later(hub: Hub, tmp_path: Path) -> None:
    held = secret(tmp_path, hub)
    hub.statuses = [503, 429]
    assert verify.verify(stored(held)).verified
    hub.statuses = [503] * 100
    with pytest.raises(RefusedError) as caught:
        fetching.fetch(wanted(tmp_path, held))
    assert (caught.value.reason, caught.value.exit_code) == ("Unreachable", Exit.TRY_AGAIN)


def test_nothing_is_kept_and_no_request_logged(hub: Hub, tmp_path: Path) -> None:
    """As in a pod, a process of its own: no cache, no token on the disk, no telemetry, no signed URL in the log."""
    hub.token, home, place = ENTRANCE, tmp_path / "home", tmp_path / "model"
    home.mkdir()
    folder = FetchFolder(
        name="model", uri="hf://org/backbone", path=str(place), credentials_path=secret(tmp_path, hub, ENTRANCE)
    )
    order = FetchOrder(files=[], folders=[folder]).model_dump_json(by_alias=True)
    run = subprocess.run(
        [sys.executable, "-P", "-m", "modelfleet.runtime", "fetch"],
        env={**os.environ, "HOME": str(home), "TMPDIR": str(home), "MODELFLEET_ORDER": order},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert list(home.rglob("*")) == []
    assert f"org/backbone@{FIRST}" in run.stderr
    assert not any(word in run.stderr for word in ("s3cr", "HTTP Request"))
    assert {path for path, _ in hub.requests if "telemetry" in path} == set()
