"""DVC beside Git: what a commit's files record, and the data they name, fetched from a real HTTP remote.

What DVC wrote is in ``tests/dvc_project.py``.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import git_server
from e2e.git_server import Repository
from modelfleet.api.wire import CheckoutOrder, FetchFolder, PullOrder, ResolveReport
from modelfleet.runtime import checkout, dvc, dvc_pull, store
from modelfleet.runtime.fetch import fetch_folder
from modelfleet.runtime.report import REPORT_LIMIT, RefusedError, encode
from tests.dvc_project import LISTING, PROJECT, REMOTE
from tests.dvc_project import write as project
from tests.unit import file_server
from tests.unit.file_server import Behaviour


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def remote() -> Iterator[Behaviour]:
    with file_server.serving() as up:
        up.files = dict(REMOTE)
        yield up


def refusal(folder: Path, **order: object) -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        dvc_pull.pull(folder, folder, PullOrder.model_validate(order))
    return raised.value


def test_parameters_and_digests_are_read() -> None:
    found = dvc.recorded({name: text.format(url="").encode() for name, text in PROJECT.items() if dvc.is_read(name)})
    assert found.params == {
        "lr": "0.001",
        "model.width": "64",
        "model.layers": "[8, 16]",
        "model.dropout": "null",
        "model.flip": "true",
    }
    assert {each.path: (each.digest, each.size_bytes) for each in found.data} == {
        "data/images": ("md5:acfb5a22fc8aa93c2ffad26b928db4f6.dir", 7),
        "labels.csv": ("md5:344fd2323dd33d5c058b7cf27de029e8", 8),
        "scaled.bin": ("md5:2094b601daac3d68f5aed51d3c20f7cd", 8),
        "summary.json": ("md5:8a80554c91d9fca8acb82f023de02f11", 3),
    }
    assert found.message == ""


@pytest.mark.parametrize(
    "content",
    [b"- a\n- b\n", b"a: [", b"\xff", b"just words", b"a: &a [x]\nb: [*a, *a]\n", b"[" * 3000, b"a: 0x" + b"f" * 6000],
)
def test_a_file_that_cannot_be_read_is_told_and_left_out(content: bytes) -> None:
    found = dvc.recorded({"params.yaml": content, "labels.csv.dvc": PROJECT["labels.csv.dvc"].encode()})
    assert found.params == {}
    assert [each.path for each in found.data] == ["labels.csv"]
    assert "params.yaml" in found.message


def test_parameters_that_json_has_no_keys_for_are_told_as_text() -> None:
    found = dvc.recorded({"params.yaml": b"splits: [{2026-11-01: 0.8, null: 1}]\n2026-11-02: {true: [x]}\n"})
    assert found.params == {"splits": '[{"2026-11-01": 0.8, "None": 1}]', "2026-11-02.True": '["x"]'}
    assert found.message == ""


@pytest.mark.parametrize(
    "content", ["stages: 7", "outs: [1, {path: 3}, {md5: x}]", "", "stages: {a: null, b: {outs: 1}}"]
)
def test_odd_files_record_nothing(content: str) -> None:
    assert (
        dvc.recorded({"dvc.lock": content.encode(), "dvc.yaml": content.encode(), "a.dvc": content.encode()}).data == []
    )


def test_a_report_is_cut_to_what_a_pod_can_say() -> None:
    data = [{"path": f"data/{number}", "digest": f"md5:{number:032}"} for number in range(200)]
    report = ResolveReport.model_validate(
        {"commit": "a" * 40, "params": {f"p{number}": "v" * 40 for number in range(300)}, "data": data}
    )
    fitted = dvc.within_limit(report)
    assert len(encode(fitted)) <= REPORT_LIMIT
    assert fitted.params
    assert fitted.data
    assert f"{300 - len(fitted.params)} params, {200 - len(fitted.data)} data digests" in fitted.message
    small = ResolveReport(commit="a" * 40, params={"lr": "1"})
    assert dvc.within_limit(small) == small


def test_a_report_of_many_long_branches_fits_too() -> None:
    refs = [
        "refs/tags/1.0.0",
        *(f"refs/heads/{number:02}{'x' * 250}" for number in range(14)),
        f"refs/heads/{'y' * 300}",
    ]
    fitted = dvc.within_limit(ResolveReport(commit="a" * 40, refs=refs, params={"lr": "1"}))
    assert len(encode(fitted)) <= REPORT_LIMIT
    assert fitted.refs == refs[: len(fitted.refs)]
    assert len(fitted.refs) > 10


def test_what_the_files_name_is_brought_by_its_digest(remote: Behaviour, tmp_path: Path) -> None:
    folder = project(tmp_path / "source", remote.address)
    assert dvc_pull.pull(folder, folder, PullOrder()) == 4
    assert (folder / "data/images/a.bin").read_bytes() == b"one"
    assert (folder / "data/images/deep/b.bin").read_bytes() == b"two\n"
    assert (folder / "labels.csv").read_bytes() == b"x,y\n1,2\n"
    assert (folder / "scaled.bin").read_bytes() == b"one\ntwo\n"
    assert not list(folder.rglob("*.part"))
    assert dvc_pull.pull(folder, folder, PullOrder()) == 0


def test_targets_choose(remote: Behaviour, tmp_path: Path) -> None:
    folder = project(tmp_path / "source", remote.address)
    assert dvc_pull.pull(folder, folder, PullOrder(targets=["data/images"])) == 2
    assert not (folder / "labels.csv").exists()
    assert dvc_pull.pull(folder, folder, PullOrder(targets=["labels.csv"])) == 1
    refused = refusal(folder, targets=["data/pictures"])
    assert refused.reason == "Invalid"
    assert "data/pictures" in refused.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("files/md5/f9/7c5d29941bfb1b2fdab0874906ab82", b"One"),
        ("files/md5/ac/fb5a22fc8aa93c2ffad26b928db4f6.dir", LISTING.replace(b"a.bin", b"b.bin")),
    ],
)
def test_other_bytes_than_recorded_are_refused(remote: Behaviour, tmp_path: Path, name: str, content: bytes) -> None:
    remote.files[name] = content
    folder = project(tmp_path / "source", remote.address)
    assert refusal(folder).reason == "HashMismatch"
    assert not (folder / "data/images/a.bin").exists()


def test_a_file_that_was_never_pushed_is_told(remote: Behaviour, tmp_path: Path) -> None:
    del remote.files["files/md5/34/4fd2323dd33d5c058b7cf27de029e8"]
    assert refusal(project(tmp_path / "source", remote.address), targets=["labels.csv"]).reason == "Unreachable"


def test_a_listing_leads_nowhere_else(remote: Behaviour, tmp_path: Path) -> None:
    listing = json.dumps([{"md5": "f97c5d29941bfb1b2fdab0874906ab82", "relpath": "../../../escaped"}]).encode()
    md5 = hashlib.md5(listing, usedforsecurity=False).hexdigest()
    remote.files[f"files/md5/{md5[:2]}/{md5[2:]}.dir"] = listing
    folder = project(tmp_path / "source", remote.address)
    (folder / "data/images.dvc").write_text(f"outs:\n- {{md5: {md5}.dir, hash: md5, path: images}}\n")
    refused = refusal(folder, targets=["data/images"])
    assert (refused.reason, "outside of the source" in refused.message) == ("Invalid", True)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("url", "order", "said"),
    [
        ("/srv/dvc", {}, "pods reach http, https, s3, gs and azure only"),
        ("ssh://me@store/dvc", {}, "pods reach http"),
        ("http://[store/dvc", {}, "is no URL"),
        ("a\nnonsense", {}, "cannot be read"),
        ("http://a.example", {"remote": "other"}, "has no remote other"),
    ],
)
def test_a_remote_that_pods_cannot_use_is_told(tmp_path: Path, url: str, order: dict[str, str], said: str) -> None:
    refused = refusal(project(tmp_path / "source", url), **order)
    assert refused.reason == "Invalid"
    assert said in refused.message


def test_dvc_2_kept_files_without_a_prefix_and_one_kind_of_line_ends(remote: Behaviour, tmp_path: Path) -> None:
    remote.files = {"34/4fd2323dd33d5c058b7cf27de029e8": b"x,y\r\n1,2\r\n"}
    folder = project(tmp_path / "source", remote.address)
    (folder / "labels.csv.dvc").write_text(
        "outs:\n- {md5: 344fd2323dd33d5c058b7cf27de029e8, size: 8, path: labels.csv}\n"
    )
    assert dvc_pull.pull(folder, folder, PullOrder(targets=["labels.csv"])) == 1


def test_checkout_brings_code_and_data_of_one_commit(remote: Behaviour, tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "served" / "defect")
    files = {f"vision/{name}": text.format(url=remote.address) for name, text in PROJECT.items()}
    commit = repository.commit({**files, "vision/.gitignore": "/labels.csv\n/scaled.bin\n/data/images\n"})
    folder = tmp_path / "workspace" / "source"
    with git_server.serving(repository.folder.parent) as server:
        checkout.check_out(
            CheckoutOrder(
                repository=server.url("defect/.git"), commit=commit, path="vision", folder=str(folder), pull=PullOrder()
            )
        )
    assert (folder / "vision/data/images/deep/b.bin").read_bytes() == b"two\n"
    assert git_server.git(folder, "status", "--porcelain") == ""


def test_a_folder_is_brought_as_it_lies_in_the_store(tmp_path: Path) -> None:
    (tmp_path / "hub/deep").mkdir(parents=True)
    (tmp_path / "hub/config.json").write_text("{}")
    (tmp_path / "hub/deep/weights").write_bytes(b"w" * 1000)
    target = tmp_path / "workspace/model"
    wanted = FetchFolder(name="model", uri=(tmp_path / "hub").as_uri(), path=str(target))
    assert {path.relative_to(target).as_posix() for path in fetch_folder(wanted)} == {"config.json", "deep/weights"}
    assert (target / "deep/weights").read_bytes() == b"w" * 1000
    one = FetchFolder(name="model", uri=(tmp_path / "hub/config.json").as_uri(), path=str(tmp_path / "one"))
    assert [path.name for path in fetch_folder(one)] == ["config.json"]
    with pytest.raises(RefusedError, match="not found"):
        fetch_folder(FetchFolder(name="model", uri=(tmp_path / "none").as_uri(), path=str(target)))


def test_a_file_is_brought_over_http(remote: Behaviour, tmp_path: Path) -> None:
    remote.files["hub/backbone.bin"] = b"b" * 10
    wanted = FetchFolder(name="model", uri=remote.url("hub/backbone.bin"), path=str(tmp_path / "model"))
    (path,) = fetch_folder(wanted)
    assert (path.name, path.read_bytes()) == ("backbone.bin", b"b" * 10)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("azure://data/dvc", "abfs://data/dvc/files/md5/77/aa"),
        ("azure://data", "abfs://data/files/md5/77/aa"),
        (
            "azure://data/dvc\n    account_name = vision",
            "abfs://data@vision.dfs.core.windows.net/dvc/files/md5/77/aa",
        ),
        ("gs://data/dvc", "gs://data/dvc/files/md5/77/aa"),
    ],
)
def test_a_remote_is_addressed_as_the_drivers_write_it(tmp_path: Path, url: str, address: str) -> None:
    folder = project(tmp_path / "source", url)
    remote = dvc_pull._remote(folder, folder, PullOrder(targets=[]))
    assert remote.uri("77aa", legacy=False) == address
