"""What is Azure's own: names of accounts in URIs, shared access signatures, and whom Azurite refuses."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from modelfleet.runtime import store, verify
from modelfleet.runtime.report import RefusedError
from tests.integration.stores.places import ACCOUNT, CONTENT, KEY, Azure, backbone, brought

OTHER_KEY = base64.b64encode(b"a strangers key " * 4).decode()
WITH_ACCOUNT = f"abfs://models@{ACCOUNT}.dfs.core.windows.net"


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


def test_a_uri_may_name_the_account(azure: Azure) -> None:
    secret = azure.secret()
    store.write(azure.uri(), CONTENT, secret)
    assert verify.verify(azure.stored(secret, f"{WITH_ACCOUNT}/a/model.onnx")).verified
    files = backbone(azure, secret)
    assert brought(azure, secret, f"{WITH_ACCOUNT}/backbone") == files


def test_a_signature_opens_what_it_permits(azure: Azure) -> None:
    store.write(azure.uri(), CONTENT, azure.secret())
    reader = azure.secret(connection=azure.connection(SharedAccessSignature=signature("rl")))
    assert verify.verify(azure.stored(reader)).verified
    with pytest.raises(RefusedError) as caught:
        store.write(azure.uri(), b"other", reader)
    assert caught.value.reason == "Unauthorized"


@pytest.mark.parametrize("held", ["wrong-key", "broken-key", "expired", "stranger", "no-account"])
def test_a_refusal_has_its_reason_and_no_secret(azure: Azure, held: str) -> None:
    store.write(azure.uri(), CONTENT, azure.secret())
    expired = signature("rl", timedelta(hours=-1))
    secret = {
        "wrong-key": lambda: azure.secret(connection=azure.connection(AccountName=ACCOUNT, AccountKey=OTHER_KEY)),
        "broken-key": lambda: azure.secret(connection=azure.connection(AccountName=ACCOUNT, AccountKey="n0base64!")),
        "expired": lambda: azure.secret(connection=azure.connection(SharedAccessSignature=expired)),
        "stranger": lambda: azure.secret(connection=azure.connection()),
        "no-account": lambda: azure.mounted({"AZURE_STORAGE_ACCOUNT_KEY": OTHER_KEY}),
    }[held]()
    found = verify.verify(azure.stored(secret))
    assert (found.verified, found.reason) == (False, "Unauthorized"), found.message
    assert not any(word in found.message for word in (KEY, OTHER_KEY, "n0base64", "sig="))
