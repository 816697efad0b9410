"""The store's code against real servers: what holds whichever store it is."""

from pathlib import Path

import pytest

from modelfleet.api.wire import PullOrder
from modelfleet.runtime import dvc_pull, store, verify
from modelfleet.runtime import fetch as fetching
from modelfleet.runtime.report import Exit, RefusedError
from tests.dvc_project import REMOTE, write
from tests.integration.stores.places import CONTENT, Place, backbone, brought, free_port


def test_what_a_step_writes_is_fetched_and_verified(place: Place) -> None:
    secret = place.secret()
    source = place.folder / "source"
    source.write_bytes(CONTENT)
    store.write(place.uri(), source, secret)
    store.write(place.uri(), source, secret)  # again, as after a lost answer
    store.write(place.uri("a/results.json"), b"{}", secret)
    assert place.holds("a/results.json") == b"{}"
    assert fetching.fetch(place.wanted(secret)).read_bytes() == CONTENT
    assert verify.verify(place.stored(secret)).verified


def test_a_part_is_resumed(place: Place) -> None:
    secret = place.secret()
    store.write(place.uri(), CONTENT, secret)
    item = place.wanted(secret)
    Path(item.path).parent.mkdir()
    Path(item.path + ".part").write_bytes(CONTENT[:20_000_000])
    with store.reading(place.uri(), secret, offset=20_000_000) as stream:
        assert stream.offset == 20_000_000
        assert b"".join(stream.blocks) == CONTENT[20_000_000:]
    assert fetching.fetch(item).read_bytes() == CONTENT


@pytest.mark.parametrize("end", ["", "/"], ids=["", "slash"])
def test_a_folder_is_brought_and_a_file_as_well(place: Place, end: str) -> None:
    secret = place.secret()
    files = backbone(place, secret)
    assert brought(place, secret, place.uri(f"backbone{end}")) == files
    assert store.find(place.uri("backbone/config.json"), secret).keys() == {"config.json"}


@pytest.mark.parametrize(
    ("path", "hint"),
    [("models/a/gone.onnx", "not found"), ("nowhere/a/model.onnx", "not found"), ("models/a", "is a folder")],
    ids=["no-object", "no-bucket", "folder"],
)
def test_what_is_not_there_is_told(place: Place, path: str, hint: str) -> None:
    secret = place.secret()
    store.write(place.uri(), b"model", secret)
    found = verify.verify(place.stored(secret, f"{place.scheme}://{path}"))
    assert (found.verified, found.reason) == (False, "Unreachable")
    assert hint in found.message


def test_data_of_dvc_is_pulled(place: Place) -> None:
    secret, folder = place.secret(), place.folder / "project"
    for name, stored_bytes in REMOTE.items():
        store.write(place.uri(f"dvc/{name}"), stored_bytes, secret)
    write(folder, f"{place.dvc_scheme}://models/dvc")
    assert dvc_pull.pull(folder, folder, PullOrder(credentials_path=secret)) == 4
    assert (folder / "data/images/deep/b.bin").read_bytes() == b"two\n"


@pytest.mark.parametrize(("content", "reason"), [(CONTENT[:-1], "SizeMismatch"), (CONTENT[:-1] + b"!", "HashMismatch")])
def test_other_bytes_are_refused(place: Place, content: bytes, reason: str) -> None:
    secret = place.secret()
    store.write(place.uri(), content, secret)
    assert verify.verify(place.stored(secret)).reason == reason


def test_a_store_that_is_down_is_left_for_later(place: Place) -> None:
    secret = place.secret(endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RefusedError) as caught:
        fetching.fetch(place.wanted(secret))
    assert (caught.value.reason, caught.value.exit_code) == ("Unreachable", Exit.TRY_AGAIN)
