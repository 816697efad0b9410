"""Certificates for a server of ours: an authority of its own, and a certificate that it signs, renewed in time.

Clients read the authority once and may run for months, so it lives for ten years, and its successor is made known a
year before it takes over: until then the server shows one last certificate of the old one. No I/O here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME: Final = timedelta(days=3650)
AUTHORITY_OVERLAP: Final = timedelta(days=365)
"""For how long the old authority's last certificate is shown after the new one was made known."""

LIFETIME: Final = timedelta(days=90)
RENEWED_BEFORE: Final = timedelta(days=30)

_CLOCKS_APART: Final = timedelta(hours=1)

AUTHORITIES: Final = "ca.crt"
AUTHORITY_KEY: Final = "ca.key"
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"


@dataclass(frozen=True)
class Papers:
    """What is kept in a Secret, by the names above; all PEM."""

    authorities: bytes
    """The newest first; what clients trust."""
    authority_key: bytes = field(repr=False)
    """Of the newest."""
    certificate: bytes
    key: bytes = field(repr=False)

    def data(self) -> dict[str, bytes]:
        """As the Secret holds it."""
        values = (self.authorities, self.authority_key, self.certificate, self.key)
        return dict(zip((AUTHORITIES, AUTHORITY_KEY, CERTIFICATE, KEY), values, strict=True))


def renewed(held: Mapping[str, bytes], names: Sequence[str], now: datetime) -> Papers:
    """The papers of a server of these DNS names: those held while they are good, else new ones."""
    try:
        papers = Papers(held[AUTHORITIES], held[AUTHORITY_KEY], held[CERTIFICATE], held[KEY])
        authorities = x509.load_pem_x509_certificates(papers.authorities)
        authority_key = _key(papers.authority_key)
        _refuse(authority_key.public_key() != authorities[0].public_key(), "the key is another authority's")
    except (KeyError, ValueError, TypeError):
        return _anew(names, now)
    left = authorities[0].not_valid_after_utc - now
    if left <= timedelta():
        return _anew(names, now)
    if left <= AUTHORITY_OVERLAP:
        # The last of the old authority: as long as that one lives. Its key is then given up.
        certificate, key = _issue(authorities[0], authority_key, names, now, left)
        successor, successor_key = _authority(now)
        return Papers(_pem(successor, authorities[0]), _private(successor_key), certificate, key)
    valid = [each for each in authorities if each.not_valid_after_utc > now]
    if len(valid) == len(authorities) and _is_good(papers, valid, names, now):
        return papers
    certificate, key = _issue(authorities[0], authority_key, names, now, LIFETIME)
    return Papers(_pem(*valid), papers.authority_key, certificate, key)


def _anew(names: Sequence[str], now: datetime) -> Papers:
    authority, authority_key = _authority(now)
    certificate, key = _issue(authority, authority_key, names, now, LIFETIME)
    return Papers(_pem(authority), _private(authority_key), certificate, key)


def _is_good(papers: Papers, authorities: Sequence[x509.Certificate], names: Sequence[str], now: datetime) -> bool:
    """Whether the server's certificate is for these names and this key, signed by one of these, and not to renew."""
    try:
        certificate = x509.load_pem_x509_certificate(papers.certificate)
        _refuse(_key(papers.key).public_key() != certificate.public_key(), "the key is another certificate's")
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    if set(alternatives.get_values_for_type(x509.DNSName)) != set(names):
        return False
    signed = any(_is_signed(certificate, authority) for authority in authorities)
    return signed and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEWED_BEFORE


def _is_signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # The moment tells an authority from its successor, for clients that look it up by its name.
    name = _name(f"modelfleet-{now:%Y%m%d%H%M%S}")
    draft = (
        _draft(name, name, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return draft.sign(key, hashes.SHA256()), key


def _issue(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    now: datetime,
    lifetime: timedelta,
) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = cast("ec.EllipticCurvePublicKey", authority.public_key())
    draft = (
        _draft(_name(names[0]), authority.subject, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    return _pem(draft.sign(authority_key, hashes.SHA256())), _private(key)


def _draft(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    _refuse(not isinstance(key, ec.EllipticCurvePrivateKey), "no elliptic-curve key")
    return cast("ec.EllipticCurvePrivateKey", key)


def _refuse(wrong: bool, why: str) -> None:
    if wrong:
        raise ValueError(why)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
