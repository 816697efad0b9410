"""Which commit a revision is, and its files: against a real Git server over HTTP and over SSH."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import git_server
from e2e.git_server import Behaviour, Repository
from modelfleet.api.wire import CheckoutOrder, FetchReport, RefTrust, ResolveOrder, ResolveReport, Wire
from modelfleet.runtime import checkout, git_source, resolve, store
from modelfleet.runtime.report import TERMINATION_LOG_ENV, Exit, RefusedError
from tests import ssh_server

NOWHERE = "5a5a" * 10


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "served" / "defect")


@pytest.fixture
def server(repository: Repository) -> Iterator[Behaviour]:
    with git_server.serving(repository.folder.parent) as up:
        yield up


def secret(folder: Path, **keys: str) -> str:
    """A mounted Secret; a dash in a key's name is written as an underscore."""
    folder.mkdir()
    for name, value in keys.items():
        (folder / name.replace("ssh_privatekey", "ssh-privatekey").replace("ca_crt", "ca.crt")).write_text(value)
    return str(folder)


def resolved(url: str, revision: str, credentials_path: str | None = None, path: str = "") -> ResolveReport:
    return resolve.resolve(
        ResolveOrder(repository=url, revision=revision, credentials_path=credentials_path, path=path)
    )


def refusal(url: str, revision: str = "main", credentials_path: str | None = None, path: str = "") -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        resolved(url, revision, credentials_path, path)
    return raised.value


def checked_out(url: str, commit: str, folder: Path, credentials_path: str | None = None, path: str = "") -> None:
    checkout.check_out(
        CheckoutOrder(repository=url, commit=commit, folder=str(folder), path=path, credentials_path=credentials_path)
    )


def test_branches_tags_and_commits_are_resolved(server: Behaviour, repository: Repository) -> None:
    first = repository.commit({"a": "1"})
    repository.git("tag", "--annotate", "v1.0.0", "--message=first")
    repository.git("tag", "light")
    repository.git("branch", "release/1.0")
    repository.git("branch", "feature/x")
    second = repository.commit({"a": "2"})
    url = server.url("defect/.git")
    assert resolved(url, "main") == ResolveReport(commit=second, refs=["refs/heads/main"])
    assert resolved(url, "v1.0.0") == ResolveReport(commit=first, refs=["refs/tags/v1.0.0"])
    assert resolved(url, "light").commit == first
    assert resolved(url, "release/1.0").refs == ["refs/heads/release/1.0"]
    assert resolved(url, "refs/heads/feature/x").commit == first
    tips = ["refs/tags/v1.0.0", "refs/tags/light", "refs/heads/release/1.0", "refs/heads/feature/x"]
    assert resolved(url, first) == ResolveReport(commit=first, refs=tips)


def test_of_many_branches_those_that_decide_the_channel_are_told(server: Behaviour, repository: Repository) -> None:
    commit = repository.commit({"a": "1"})
    for number in range(20):
        repository.git("branch", f"topic/{number}")
    repository.git("branch", "release/1.0")
    trust = [
        RefTrust(kind="branch", pattern="main", trust=3),
        RefTrust(kind="branch", pattern="release/*", trust=2),
        RefTrust(kind="tag", pattern="*", trust=3),
    ]
    url = server.url("defect/.git")
    refs = resolve.resolve(ResolveOrder(repository=url, revision=commit, trust=trust)).refs
    assert len(refs) == 16
    assert refs[:3] == ["refs/heads/main", "refs/heads/release/1.0", "refs/heads/topic/9"]
    assert "refs/heads/main" not in resolved(url, commit).refs


def test_a_commit_that_no_branch_ends_in_is_taken_but_has_no_ref(server: Behaviour, repository: Repository) -> None:
    first = repository.commit({"a": "1"})
    repository.commit({"a": "2"})
    assert resolved(server.url("defect/.git"), first) == ResolveReport(commit=first)


@pytest.mark.parametrize(
    ("revision", "reason", "said"),
    [
        ("mian", "UnknownRevision", "has no branch or tag mian; its branches: develop, main"),
        ("refs/tags/main", "UnknownRevision", "has no branch or tag refs/tags/main"),
        ("4f2c0d5e", "UnknownRevision", "of a commit give the full hash"),
        (NOWHERE, "UnknownRevision", f"has no commit {NOWHERE}"),
        ("both", "Invalid", "write refs/tags/both or refs/heads/both"),
    ],
)
def test_what_is_no_revision_is_refused_for_good(
    server: Behaviour, repository: Repository, revision: str, reason: str, said: str
) -> None:
    repository.commit({"a": "1"})
    repository.git("tag", "both")
    repository.git("branch", "both")
    repository.git("branch", "develop")
    repository.git("branch", "--delete", "both") if reason != "Invalid" else None
    refused = refusal(server.url("defect/.git"), revision)
    assert (refused.reason, refused.exit_code) == (reason, Exit.REFUSED)
    assert said in refused.message


def test_exactly_that_commit_is_checked_out_without_its_history(
    server: Behaviour, repository: Repository, tmp_path: Path
) -> None:
    repository.commit({"old": "0"})
    wanted = repository.commit({"train/train.py": "print(1)", "train/run.sh": "#!/bin/sh\n"})
    (repository.folder / "train/run.sh").chmod(0o755)
    (repository.folder / "link").symlink_to("train/train.py")
    wanted = repository.commit({})
    repository.commit({"train/train.py": "print(2)"})
    folder = tmp_path / "workspace" / "source"
    checked_out(server.url("defect/.git"), wanted, folder, path="train")
    assert (folder / "train/train.py").read_text() == "print(1)"
    assert (folder / "train/run.sh").stat().st_mode & stat.S_IXUSR
    assert (folder / "link").readlink() == Path("train/train.py")
    assert git_server.git(folder, "rev-parse", "HEAD") == wanted
    assert git_server.git(folder, "rev-list", "--count", "HEAD") == "1"
    assert git_server.git(folder, "status", "--porcelain") == ""


def test_an_init_container_that_runs_again_starts_over(
    server: Behaviour, repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit({"a": "1"})
    (tmp_path / "source" / "half").mkdir(parents=True)
    (tmp_path / "source" / "a").write_text("cut o")
    checked_out(server.url("defect/.git"), commit, tmp_path / "source")
    assert (tmp_path / "source" / "a").read_text() == "1"
    assert not (tmp_path / "source" / "half").exists()


def test_an_old_server_hands_out_a_commit_that_no_branch_ends_in(
    server: Behaviour, repository: Repository, tmp_path: Path
) -> None:
    server.protocol_v2 = False
    first = repository.commit({"a": "1"})
    repository.commit({"a": "2"})
    checked_out(server.url("defect/.git"), first, tmp_path / "source")
    assert (tmp_path / "source" / "a").read_text() == "1"
    assert git_server.git(tmp_path / "source", "rev-parse", "HEAD") == first


def test_a_server_that_is_busy_is_asked_again(server: Behaviour, repository: Repository) -> None:
    commit = repository.commit({"a": "1"})
    server.statuses = [503, 502]
    assert resolved(server.url("defect/.git"), "main").commit == commit


def test_a_server_that_is_down_is_told_and_worth_another_try(
    server: Behaviour, repository: Repository, tmp_path: Path
) -> None:
    refused = refusal("http://127.0.0.1:9/defect")
    assert (refused.reason, refused.exit_code) == ("Unreachable", Exit.TRY_AGAIN)
    server.statuses = [503] * 9
    assert refusal(server.url("defect/.git")).reason == "Unreachable"
    missing = refusal(server.url("none"))
    assert missing.reason == "Unreachable"
    assert "no Git repository" in missing.message


@pytest.mark.parametrize("keys", [{"username": "me", "password": "s3cret"}, {"token": "s3cret"}], ids=["pair", "token"])
def test_a_password_or_a_token_opens_the_repository(
    server: Behaviour, repository: Repository, tmp_path: Path, keys: dict[str, str]
) -> None:
    commit = repository.commit({"a": "1"})
    server.account = (keys.get("username", "oauth2"), "s3cret")
    url, held = server.url("defect/.git"), secret(tmp_path / "held", **keys)
    assert resolved(url, "main", held).commit == commit
    checked_out(url, commit, tmp_path / "source", held)
    assert not any(
        "s3cret" in path.read_text(errors="replace")
        for path in (tmp_path / "source" / ".git").glob("*")
        if path.is_file()
    )


def test_wrong_or_missing_credentials_are_told_without_them(
    server: Behaviour, repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository.commit({"a": "1"})
    server.account = ("me", "s3cret")
    url = server.url("defect/.git")
    for held in (None, secret(tmp_path / "wrong", **{"username": "me", "password": "gues5ed"})):
        refused = refusal(url, credentials_path=held)
        assert (refused.reason, refused.exit_code) == ("Unauthorized", Exit.TRY_AGAIN)
        assert "secretRef" in refused.message
        assert "gues5ed" not in refused.message + caplog.text
    assert refusal(url, credentials_path=secret(tmp_path / "half", username="me")).reason == "Invalid"


@pytest.mark.parametrize("url", ["ssh://git@git.example:vision/defect", "https://git.example:99999/x", "https://[x/y"])
def test_what_is_no_url_ends_the_job(url: str) -> None:
    refused = refusal(url)
    assert (refused.reason, refused.exit_code) == ("Invalid", Exit.REFUSED)
    assert "source.git.repository" in refused.message


def test_a_key_opens_the_repository_over_ssh(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a": "0"})
    commit = repository.commit({"a": "1"})
    with ssh_server.serving(repository.folder.parent) as server:
        held = secret(tmp_path / "held", ssh_privatekey=server.private_key, known_hosts=server.known_hosts)
        url = server.url("defect/.git")
        assert resolved(url, "main", held).commit == commit
        checked_out(url, commit, tmp_path / "source", held)
        assert {command.split()[0] for command in server.commands} == {"git-upload-pack"}
    assert (tmp_path / "source" / "a").read_text() == "1"


def test_an_ssh_server_must_be_the_one_that_is_known(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a": "1"})
    with ssh_server.serving(repository.folder.parent) as other, ssh_server.serving(repository.folder.parent) as server:
        forged = server.known_hosts.split()[0] + " " + other.known_hosts.split(" ", 1)[1]
        held = secret(tmp_path / "held", ssh_privatekey=server.private_key, known_hosts=forged)
        refused = refusal(server.url("defect/.git"), credentials_path=held)
        assert refused.reason == "Unauthorized"
        assert "is not the one in the Secret's known_hosts" in refused.message
        assert server.commands == []
        stranger = secret(tmp_path / "stranger", ssh_privatekey=other.private_key, known_hosts=server.known_hosts)
        refused = refusal(server.url("defect/.git"), credentials_path=stranger)
        assert refused.reason == "Unauthorized"
        assert "Permission denied" in refused.message
        without = secret(tmp_path / "without", ssh_privatekey=server.private_key)
        assert "known_hosts" in refusal(server.url("defect/.git"), credentials_path=without).message


def test_a_folder_that_the_commit_lacks_is_refused(server: Behaviour, repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"train/a": "1", "file": "1"})
    assert resolved(server.url("defect/.git"), "main", path="train").commit == commit
    for path in ("tarin", "file", "train/a", "train/deeper"):
        refused = refusal(server.url("defect/.git"), path=path)
        assert refused.reason == "Invalid"
        assert f"has no folder {path}" in refused.message
    with pytest.raises(RefusedError, match="has no folder tarin"):
        checked_out(server.url("defect/.git"), commit, tmp_path / "source", path="tarin")


PROGRAMS: list[Any] = [
    (resolve, ResolveOrder(repository="{url}", revision="mian"), ResolveReport),
    (checkout, CheckoutOrder(repository="{url}", commit=NOWHERE, folder="{folder}"), FetchReport),
]


@pytest.mark.parametrize(("program", "order", "kind"), PROGRAMS, ids=["resolve", "checkout"])
def test_the_programs_report_why_not(
    server: Behaviour,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Any,
    order: Wire,
    kind: type[ResolveReport] | type[FetchReport],
) -> None:
    repository.commit({"a": "1"})
    text = order.model_dump_json(by_alias=True)
    text = text.replace("{url}", server.url("defect/.git")).replace("{folder}", str(tmp_path / "source"))
    monkeypatch.setenv("MODELFLEET_ORDER", text)
    monkeypatch.setenv(TERMINATION_LOG_ENV, str(tmp_path / "log"))
    assert program.main() == Exit.REFUSED
    report = kind.model_validate_json((tmp_path / "log").read_bytes())
    assert report.reason == "UnknownRevision"


def test_resolve_reports_the_commit(
    server: Behaviour, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit({"params.yaml": "lr: 0.001\n"})
    order = ResolveOrder(repository=server.url("defect/.git"), revision="main")
    monkeypatch.setenv("MODELFLEET_ORDER", order.model_dump_json(by_alias=True))
    monkeypatch.setenv(TERMINATION_LOG_ENV, str(tmp_path / "log"))
    assert resolve.main() == Exit.DONE
    said = json.loads((tmp_path / "log").read_text())
    assert (said["commit"], said["params"]) == (commit, {"lr": "0.001"})


def test_a_link_in_the_repository_leads_nowhere(server: Behaviour, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("password: s3cret\n")
    repository.commit({"a": "1"})
    (repository.folder / "params.yaml").symlink_to(tmp_path / "password")
    repository.commit({})
    assert resolved(server.url("defect/.git"), "main").params == {}


def test_a_private_authority_is_trusted_by_the_secret(tmp_path: Path) -> None:
    with git_source.connection("https://git.example/a", secret(tmp_path / "held", ca_crt="x")) as remote:
        assert remote.where == "https://git.example/a"
