"""The certificates of the server that pods tell their progress: made, kept, renewed, and handed over to a successor."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from modelfleet.cluster import certificates
from modelfleet.cluster.certificates import Papers, renewed

NAMES = ["modelfleet-progress.system.svc", "modelfleet-progress.system"]
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def after(papers: Papers, **spent: float) -> Papers:
    return renewed(papers.data(), NAMES, NOW + timedelta(**spent))


def server(papers: Papers) -> x509.Certificate:
    return x509.load_pem_x509_certificate(papers.certificate)


def trusted(papers: Papers) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(papers.authorities)


def test_new_papers_hold_together() -> None:
    papers = renewed({}, NAMES, NOW)
    (authority,) = trusted(papers)
    server(papers).verify_directly_issued_by(authority)
    names = server(papers).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == NAMES
    assert server(papers).not_valid_after_utc == NOW + certificates.LIFETIME


def test_they_are_kept_while_they_are_good_and_renewed_in_time() -> None:
    papers = renewed({}, NAMES, NOW)
    assert after(papers, days=59) == papers
    next_ = after(papers, days=60)
    assert next_.authorities == papers.authorities
    assert server(next_).not_valid_after_utc == NOW + timedelta(days=150)
    assert after(next_, days=61) == next_


def test_other_names_need_another_certificate() -> None:
    papers = renewed({}, ["old.system.svc"], NOW)
    next_ = after(papers)
    assert (next_.authorities, next_.certificate != papers.certificate) == (papers.authorities, True)


@pytest.mark.parametrize("lost", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("value", [None, b"", b"no certificate", "others"])
def test_what_is_damaged_is_made_anew(lost: str, value: bytes | str | None) -> None:
    papers = renewed({}, NAMES, NOW)
    data = papers.data()
    if value is None:
        del data[lost]
    else:
        data[lost] = renewed({}, NAMES, NOW).data()[lost] if isinstance(value, str) else value
    mended = renewed(data, NAMES, NOW)
    server(mended).verify_directly_issued_by(trusted(mended)[0])
    assert after(mended) == mended
    kept = lost.startswith("tls") and value is not None
    assert (mended.authorities == papers.authorities) == kept


def test_a_successor_is_known_a_year_before_it_signs() -> None:
    papers = renewed({}, NAMES, NOW)
    handed = after(papers, days=3650 - 365)
    successor, old = trusted(handed)
    assert old == trusted(papers)[0]
    server(handed).verify_directly_issued_by(old)
    assert server(handed).not_valid_after_utc == old.not_valid_after_utc
    assert after(handed, days=3650 - 31) == handed
    taken_over = after(handed, days=3650 - 30)
    server(taken_over).verify_directly_issued_by(successor)
    assert trusted(taken_over) == [successor, old]
    # The old one is dropped when it is over.
    assert trusted(after(taken_over, days=3650)) == [successor]


def test_nothing_is_trusted_that_is_over() -> None:
    papers = renewed({}, NAMES, NOW)
    late = after(papers, days=3651)
    assert len(trusted(late)) == 1
    assert trusted(late) != trusted(papers)
