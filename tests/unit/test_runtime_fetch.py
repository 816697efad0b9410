"""``fetch`` and ``verify`` against a real HTTP server that behaves, and one that does not."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelfleet.api.wire import (
    REPORT_LIMIT,
    CheckedFile,
    FetchItem,
    InferenceCheck,
    StoredFile,
    VerifiedFile,
    VerifyOrder,
    VerifyReport,
)
from modelfleet.runtime import __main__ as programs
from modelfleet.runtime import fetch as fetching
from modelfleet.runtime import onnx_check, onnx_probe, report, store, verify
from modelfleet.runtime.report import Exit, RefusedError
from tests import onnx
from tests.unit.file_server import Behaviour, serving

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Behaviour]:
    with serving() as behaviour:
        behaviour.files["model.onnx"] = CONTENT
        yield behaviour


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 0.001)


def item(server: Behaviour, folder: Path, **changes: Any) -> FetchItem:
    fields: dict[str, Any] = {
        "name": "fp32",
        "uri": server.url("model.onnx"),
        "sha256": DIGEST,
        "size_bytes": len(CONTENT),
        "path": str(folder / "models" / "model.onnx"),
    }
    return FetchItem(**fields | changes)


def refused(wanted: FetchItem) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        fetching.fetch(wanted)
    assert not Path(wanted.path).exists(), "nothing unverified may lie at the path"
    return caught.value


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("tells_length", [True, False])
def test_a_file_arrives_whole_and_leaves_nothing_beside_it(
    server: Behaviour, tmp_path: Path, size: int | None, tells_length: bool
) -> None:
    server.tells_length = tells_length
    path = fetching.fetch(item(server, tmp_path, size_bytes=size))
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]


def test_a_verified_file_is_not_fetched_again(server: Behaviour, tmp_path: Path) -> None:
    fetching.fetch(item(server, tmp_path))
    server.requests.clear()
    fetching.fetch(item(server, tmp_path))
    assert server.requests == []


def test_a_file_changed_on_the_device_is_replaced(server: Behaviour, tmp_path: Path) -> None:
    path = fetching.fetch(item(server, tmp_path))
    path.write_bytes(b"tampered with")
    assert fetching.fetch(item(server, tmp_path)).read_bytes() == CONTENT


def test_a_cut_connection_is_resumed_where_it_ended(server: Behaviour, tmp_path: Path) -> None:
    server.cut_after = [3_000_000]
    assert fetching.fetch(item(server, tmp_path)).read_bytes() == CONTENT
    (_, first), (_, second) = server.requests
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 3_000_000


def test_an_earlier_runs_part_is_resumed(server: Behaviour, tmp_path: Path) -> None:
    wanted = item(server, tmp_path)
    part = Path(wanted.path + ".part")
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1_000_000])
    fetching.fetch(wanted)
    assert server.requests == [("/model.onnx", "bytes=1000000-")]
    assert not part.exists()


def test_a_complete_part_needs_no_download(server: Behaviour, tmp_path: Path) -> None:
    wanted = item(server, tmp_path)
    part = Path(wanted.path + ".part")
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    fetching.fetch(wanted)
    assert server.requests == []


@pytest.mark.parametrize("left", [b"of another model" * 1000, CONTENT + b"and more"])
def test_a_part_of_other_content_is_dropped(server: Behaviour, tmp_path: Path, left: bytes) -> None:
    wanted = item(server, tmp_path)
    Path(wanted.path).parent.mkdir()
    Path(wanted.path + ".part").write_bytes(left)
    assert fetching.fetch(wanted).read_bytes() == CONTENT


def test_a_store_without_ranges_starts_over(server: Behaviour, tmp_path: Path) -> None:
    server.ranges = False
    wanted = item(server, tmp_path)
    Path(wanted.path).parent.mkdir()
    Path(wanted.path + ".part").write_bytes(CONTENT[:1_000_000])
    assert fetching.fetch(wanted).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_cut_connection_to_a_store_without_ranges_is_no_mismatch(
    server: Behaviour, tmp_path: Path, size: int | None
) -> None:
    server.ranges = False
    server.cut_after = [3_000_000, 2_000_000]
    assert fetching.fetch(item(server, tmp_path, size_bytes=size)).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_every_cut_that_brought_bytes_earns_new_patience(server: Behaviour, tmp_path: Path) -> None:
    server.cut_after = [400_000] * 12
    assert fetching.fetch(item(server, tmp_path)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "reason", "hint", "code"),
    [
        (404, "Unreachable", "not found", report.Exit.TRY_AGAIN),
        (403, "Unauthorized", "403", report.Exit.TRY_AGAIN),
        (401, "Unauthorized", "Secret", report.Exit.TRY_AGAIN),
    ],
)
def test_a_refusal_of_the_store_is_told_at_once(
    server: Behaviour, tmp_path: Path, status: int, reason: str, hint: str, code: int
) -> None:
    server.statuses = [status] * 10
    error = refused(item(server, tmp_path))
    assert (error.reason, error.exit_code) == (reason, code)
    assert hint in error.message
    assert len(server.requests) == 1


def test_a_busy_store_is_asked_again(server: Behaviour, tmp_path: Path) -> None:
    server.statuses = [503, 429, 500]
    assert fetching.fetch(item(server, tmp_path)).read_bytes() == CONTENT


def test_a_dead_store_is_given_up_for_later(server: Behaviour, tmp_path: Path) -> None:
    server.statuses = [503] * 50
    error = refused(item(server, tmp_path))
    assert (error.reason, error.exit_code) == ("Unreachable", report.Exit.TRY_AGAIN)
    assert len(server.requests) == 5


def test_results_outlast_a_store_that_is_away_for_minutes(server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(store.time, "sleep", pauses.append)
    server.put_statuses = [503] * 8
    store.write(server.url("results.json"), b"{}", None)
    assert server.files["results.json"] == b"{}"
    assert sum(pauses) > 60
    assert max(pauses) <= 96
    server.put_statuses = [503] * 50
    with pytest.raises(RefusedError) as refused_:
        store.write(server.url("results.json"), b"{}", None)
    assert refused_.value.reason == "Unreachable"


@pytest.mark.parametrize("tells_length", [True, False])
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!"])
def test_a_wrong_size_is_permanent(server: Behaviour, tmp_path: Path, content: bytes, tells_length: bool) -> None:
    server.files["model.onnx"] = content
    server.tells_length = tells_length
    error = refused(item(server, tmp_path))
    assert (error.reason, error.exit_code) == ("SizeMismatch", report.Exit.REFUSED)


def test_a_wrong_byte_is_permanent_and_names_both_digests(server: Behaviour, tmp_path: Path) -> None:
    changed = CONTENT[:-1] + b"!"
    server.files["model.onnx"] = changed
    error = refused(item(server, tmp_path))
    assert (error.reason, error.exit_code) == ("HashMismatch", report.Exit.REFUSED)
    assert DIGEST in error.message
    assert hashlib.sha256(changed).hexdigest() in error.message


def test_no_space_is_seen_before_the_download(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = item(server, tmp_path)
    usage = fetching.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage._replace(free=len(CONTENT) - 1))
    error = refused(wanted)
    assert (error.reason, error.exit_code) == ("NoSpace", report.Exit.TRY_AGAIN)
    part = Path(wanted.path + ".part")
    assert not part.exists() or part.stat().st_size == 0


@pytest.mark.parametrize("uri", ["gopher://old/model.onnx", "model.onnx", "simplecache::https://x.example/m.onnx"])
def test_a_uri_that_no_driver_takes_is_invalid(server: Behaviour, tmp_path: Path, uri: str) -> None:
    error = refused(item(server, tmp_path, uri=uri))
    assert (error.reason, error.exit_code) == ("Invalid", report.Exit.REFUSED)


def test_a_bearer_token_of_the_secret_opens_the_store(server: Behaviour, tmp_path: Path) -> None:
    server.token = "open-sesame"  # noqa: S105
    assert refused(item(server, tmp_path)).reason == "Unauthorized"
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "token").write_text("open-sesame\n")
    fetching.fetch(item(server, tmp_path, credentials_path=str(secret)))


def test_signatures_and_passwords_are_never_told(
    server: Behaviour, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="modelfleet")
    signed = server.url("model.onnx") + "?X-Amz-Signature=5ecret"
    server.statuses = [503, 503]
    fetching.fetch(item(server, tmp_path, uri=signed))
    dead = refused(item(server, tmp_path, uri="http://user:pa55word@127.0.0.1:9/m?sig=5ecret", path=f"{tmp_path}/m"))
    told = caplog.text + dead.message
    assert "5ecret" not in told
    assert "pa55word" not in told


def test_verify_reads_all_and_keeps_none(server: Behaviour) -> None:
    found = verify.verify(StoredFile(name="fp32", uri=server.url("model.onnx"), sha256=DIGEST, size_bytes=len(CONTENT)))
    assert found == VerifiedFile(name="fp32", verified=True, size_bytes=len(CONTENT))


def test_verify_reports_each_file_and_leaves_with_the_gravest_code(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["other.onnx"] = CONTENT[::-1]
    log = tmp_path / "termination"
    monkeypatch.setenv(report.TERMINATION_LOG_ENV, str(log))
    files = [{"name": name, "uri": server.url(f"{name}.onnx"), "sha256": DIGEST} for name in ("model", "other", "gone")]
    monkeypatch.setenv("MODELFLEET_ORDER", json.dumps({"files": files}))
    assert programs.main(["verify"]) == report.Exit.REFUSED
    said = VerifyReport.model_validate_json(log.read_bytes())
    assert [(file.name, file.verified, file.reason) for file in said.artifacts] == [
        ("model", True, None),
        ("other", False, "HashMismatch"),
        ("gone", False, "Unreachable"),
    ]


def test_fetch_leaves_a_report_that_the_kubelet_keeps(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination"
    monkeypatch.setenv(report.TERMINATION_LOG_ENV, str(log))
    wanted = item(server, tmp_path, sha256="0" * 64)
    order = {"files": [wanted.model_dump(by_alias=True)]}
    monkeypatch.setenv("MODELFLEET_ORDER", json.dumps(order))
    assert programs.main(["fetch"]) == report.Exit.REFUSED
    assert json.loads(log.read_bytes())["reason"] == "HashMismatch"


def test_an_order_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELFLEET_ORDER", '{"files": 3}')
    assert programs.main(["fetch"]) == report.Exit.REFUSED
    assert programs.main(["verify"]) == report.Exit.REFUSED
    assert programs.main(["dance"]) == 2


@pytest.mark.parametrize("letter", ["x", "ä", "\n", '"'])
def test_a_long_report_is_trimmed_to_what_fits(letter: str) -> None:
    files = [
        VerifiedFile(name=f"artifact-{number}", verified=False, reason="Unreachable", message=letter * 900)
        for number in range(16)
    ]
    encoded = report.trimmed(VerifyReport(artifacts=files))
    assert len(encoded) <= REPORT_LIMIT
    assert len(VerifyReport.model_validate_json(encoded).artifacts) == 16


def test_verify_tries_onnx_models_and_tells_what_it_found(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two precisions that agree, a third of another model, and one whose bytes are wrong: it is not even loaded."""
    scratch, log = tmp_path / "scratch", tmp_path / "report"
    scratch.mkdir()
    models = {"fp32": onnx.scaled(2.0), "int8": onnx.scaled(2.1), "fp16": onnx.scaled(5.0, kind=onnx.FLOAT16)}
    files = []
    for name, content in models.items():
        server.files[name] = content
        files.append(
            CheckedFile(
                name=name,
                uri=server.url(name),
                sha256=hashlib.sha256(content).hexdigest(),
                size_bytes=len(content),
                format="onnx",
                precision=name,
            )
        )
    files.append(files[0].model_copy(update={"name": "wrong", "sha256": "0" * 64}))
    order = VerifyOrder(files=files, inference=InferenceCheck(folder=str(scratch)))
    monkeypatch.setenv("MODELFLEET_ORDER", order.model_dump_json(by_alias=True))
    monkeypatch.setenv("MODELFLEET_TERMINATION_LOG", str(log))
    monkeypatch.setattr(onnx_check, "_probe", onnx_probe.answer)
    assert programs.main(["verify"]) == report.Exit.REFUSED
    told = VerifyReport.model_validate_json(log.read_bytes())
    assert [file.reason for file in told.artifacts] == [None, None, "PrecisionMismatch", "HashMismatch"]
    assert told.artifacts[0].inputs == ["x: FP32[?, 3]"]
    assert told.artifacts[1].agreement is not None


def test_a_report_of_many_models_fits_a_termination_message() -> None:
    ports = ["x" * 96] * 8
    files = [
        VerifiedFile(name=f"a{index}", verified=True, message="y" * 256, size_bytes=1, inputs=ports, outputs=ports)
        for index in range(16)
    ]
    sent = report.trimmed(VerifyReport(artifacts=files))
    assert len(sent) <= REPORT_LIMIT
    back = VerifyReport.model_validate_json(sent)
    assert [file.name for file in back.artifacts] == [file.name for file in files]
    assert back.artifacts[0].outputs == ports


def test_what_is_no_url_is_refused_for_good(tmp_path: Path, server: Behaviour) -> None:
    refusal = refused(item(server, tmp_path, uri="https://me:pw@[models/m.onnx"))
    assert (refusal.reason, refusal.exit_code) == ("Invalid", Exit.REFUSED)
    assert "pw" not in refusal.message
