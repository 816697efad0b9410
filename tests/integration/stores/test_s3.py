"""What is S3's own: whom versitygw refuses."""

import pytest

from modelfleet.runtime import store, verify
from tests.integration.stores.places import S3


@pytest.mark.parametrize(
    "keys",
    [{"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, {"AWS_ACCESS_KEY_ID": "stranger"}, {"AWS_ACCESS_KEY_ID": ""}],
    ids=["wrong-secret", "unknown-key", "anonymous"],
)
def test_a_refusal_has_its_reason_and_no_secret(s3: S3, keys: dict[str, str]) -> None:
    store.write(s3.uri(), b"model", s3.secret())
    found = verify.verify(s3.stored(s3.secret(**keys)))
    assert (found.verified, found.reason) == (False, "Unauthorized")
    assert "refused access" in found.message
    assert "wrong-secret" not in found.message
