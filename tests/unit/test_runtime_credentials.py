"""A mounted Secret: what of it is used, and what of it must never be printed."""

import json
from pathlib import Path

import pytest

from modelfleet.runtime import credentials, git_source, store
from modelfleet.runtime.report import RefusedError


def secret(folder: Path, **keys: bytes) -> Path:
    """A mounted Secret; two underscores in a key's name stand for a dot."""
    for name, value in keys.items():
        (folder / name.replace("__", ".")).write_bytes(value)
    return folder


def test_keys_that_are_no_text_are_no_hindrance(tmp_path: Path) -> None:
    held = secret(tmp_path, AWS_ACCESS_KEY_ID=b"me", truststore=b"\xff\xfe\x00")
    assert credentials.load("s3", held).options["key"] == "me"


def test_secrets_within_storage_options_are_not_printed(tmp_path: Path) -> None:
    options = {"account_key": "c2VjcmV0", "client": [{"password": "hunter22"}], "port": 443, "anon": False, "x": "ab"}
    access = credentials.load("abfs", secret(tmp_path, storage_options__json=json.dumps(options).encode()))
    assert access.options["account_key"] == "c2VjcmV0"
    assert {"c2VjcmV0", "hunter22"} <= access.secrets
    assert "ab" not in access.secrets
    assert store._scrub("no account abfs/c2VjcmV0 for hunter22", access) == "no account abfs/*** for ***"


@pytest.mark.parametrize("token", [b"", b"\n", b"t0ps3cret"])
def test_a_message_is_scrubbed_of_secrets_alone(tmp_path: Path, token: bytes) -> None:
    held = secret(tmp_path, username=b"me", token=token)
    with git_source.connection("https://git.example/defect", str(held)) as remote:
        said = git_source._scrubbed(remote, OSError("no route to git.example with t0ps3cret"))
    assert said == "no route to git.example with " + ("***" if token.strip() else "t0ps3cret")


@pytest.mark.parametrize(
    ("protocol", "keys", "options"),
    [
        ("hf", {}, {"token": False}),
        (
            "hf",
            {"HF_TOKEN": b"hf_1", "HF_ENDPOINT": b"https://hub.example/"},
            {"token": "hf_1", "endpoint": "https://hub.example"},
        ),
        ("gs", {}, {"token": "anon"}),
        ("gs", {"key__json": b'{"type": "service_account"}'}, {"token": {"type": "service_account"}}),
        (
            "gs",
            {"GOOGLE_APPLICATION_CREDENTIALS": b'{"type": "authorized_user"}', "key__json": b"{}"},
            {"token": {"type": "authorized_user"}},
        ),
        ("abfs", {}, {"anon": True}),
        ("abfs", {"AZURE_STORAGE_ACCOUNT": b"vision"}, {"anon": True, "account_name": "vision"}),
        (
            "abfs",
            {"AZURE_STORAGE_ACCOUNT_NAME": b"vision", "AZURE_STORAGE_KEY": b"a2V5"},
            {"account_name": "vision", "account_key": "a2V5"},
        ),
        ("abfs", {"AZURE_STORAGE_SAS_TOKEN": b"?sv=1&sig=2"}, {"sas_token": "?sv=1&sig=2"}),
        (
            "abfs",
            {"AZURE_CLIENT_ID": b"id", "AZURE_CLIENT_SECRET": b"word", "AZURE_TENANT_ID": b"tenant"},
            {"client_id": "id", "client_secret": "word", "tenant_id": "tenant"},
        ),
    ],
)
def test_a_store_is_opened_with_the_keys_its_users_know(
    tmp_path: Path, protocol: str, keys: dict[str, bytes], options: dict[str, object]
) -> None:
    found = credentials.load(protocol, secret(tmp_path, **keys)).options
    told = ("token", "endpoint", "anon", "account_name", "account_key", "sas_token", "tenant_id", "client_id")
    assert {name: value for name, value in found.items() if name in (*told, "client_secret")} == options


@pytest.mark.parametrize("content", [b"/home/me/key.json", b"[]", b'{"type": "external_account"}'])
def test_a_key_that_is_no_accounts_is_refused_with_what_it_must_be(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RefusedError, match=r"key key\.json of the Secret must hold the JSON") as caught:
        credentials.load("gs", secret(tmp_path, key__json=content))
    assert caught.value.reason == "Unauthorized"


def test_secrets_within_a_key_are_not_printed(tmp_path: Path) -> None:
    account = {"type": "service_account", "private_key": "-----BEGIN…", "project_id": "vision"}
    assert "-----BEGIN…" in credentials.load("gs", secret(tmp_path, key__json=json.dumps(account).encode())).secrets
    connection = b"AccountName=vision;AccountKey=c2VjcmV0PQ==;EndpointSuffix=core.windows.net"
    held = credentials.load("abfs", secret(tmp_path, AZURE_STORAGE_CONNECTION_STRING=connection)).secrets
    assert {"c2VjcmV0PQ=="} == {value for value in held if value in connection.decode()} - {connection.decode()}


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("abfs://models@vision.dfs.core.windows.net/a?sig=1", "abfs://models@vision.dfs.core.windows.net/a"),
        ("abfs://me:word@vision.example/a", "abfs://vision.example/a"),
        ("https://me@vision.example/a", "https://vision.example/a"),
    ],
)
def test_a_container_is_shown_and_a_user_is_not(uri: str, shown: str) -> None:
    assert store.redact(uri) == shown
