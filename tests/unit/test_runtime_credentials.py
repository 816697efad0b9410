"""A mounted Secret: what of it is used, and what of it must never be printed."""

import json
from pathlib import Path

import pytest

from modelfleet.runtime import credentials, git_source, store


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
