"""A certificate authority of one's own and a server certificate signed by it.

Promised: keys are readable by their owner alone; clients that trust `ca.crt` reach the server under each of its names.
Refused: replacing files that are there, unless it is asked for.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cyxwiz.domain.errors import CyxError, conflict, invalid
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.runtime.files import make_private

NAMES = ("ca.crt", "ca.key", "server.crt", "server.key")
CLOCK_SKEW = timedelta(hours=1)


def make(directory: Path, hosts: Sequence[str], *, days: int, force: bool = False) -> dict[str, Any]:
    """Writes the four files; where they are, as settings and for which names.

    Raises:
        CyxError: CONFLICT when one is there already; INVALID for a host that is no name.
    """
    there = [name for name in NAMES if (directory / name).exists()]
    if there and not force:
        raise conflict(
            f"{directory} has {', '.join(there)} already: use them, or replace them with --force. "
            "Whoever trusts the old ones then needs the new ca.crt"
        )
    names = list(dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts]))
    alternatives = [_general_name(name) for name in names]
    now = SystemClock().now()
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(ca_key, now, days)
    server = _server(server_key, ca_key, authority, alternatives, now, days)
    try:
        make_private(directory)
        _write(directory / "ca.key", _key_text(ca_key), 0o600)
        _write(directory / "server.key", _key_text(server_key), 0o600)
        _write(directory / "ca.crt", _text(authority), 0o644)
        _write(directory / "server.crt", _text(server) + _text(authority), 0o644)
    except OSError as error:
        raise invalid(f"{directory} can't be written: {error.strerror}") from None
    whole = directory.resolve()
    return {
        "ca_file": str(whole / "ca.crt"),
        "cert_file": str(whole / "server.crt"),
        "key_file": str(whole / "server.key"),
        "hosts": names,
        "not_after": (now + timedelta(days=days)).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def _general_name(text: str) -> x509.GeneralName:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
        return x509.IPAddress(address)
    except ValueError:
        pass  # no address: a name
    try:
        if not text or " " in text or "/" in text or ":" in text:
            raise ValueError("it must be a name or an address, without a port")
        return x509.DNSName(text.encode("idna").decode() if not text.isascii() else text)
    except (ValueError, UnicodeError) as error:
        raise _no_host(text, error) from None


def _no_host(text: str, error: Exception) -> CyxError:
    return invalid(f"--host {text!r}: {error}", field="host")


def _builder(
    subject: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime, days: int) -> x509.Certificate:
    return (
        _builder("CyxWiz local authority", None, key, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    alternatives: Sequence[x509.GeneralName],
    now: datetime,
    days: int,
) -> x509.Certificate:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _builder("CyxWiz server", authority.subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(alternatives)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )


def _text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
