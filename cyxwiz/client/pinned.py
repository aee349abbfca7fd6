"""A channel to a node that shows exactly the certificate that central named, and to no other.

The certificate is looked at first, without trusting it; only if its fingerprint is the right one does it become the
only root of the channel, whose handshake then proves that the other side has its key.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from typing import Any

import grpc

from cyxwiz.client.connection import MAX_MESSAGE_BYTES
from cyxwiz.domain.errors import Code, CyxError, invalid

CONNECT_SECONDS = 5.0
_LOOPBACK = ("127.", "localhost", "::1")


async def open_node_channel(endpoint: str, fingerprint: str, *, same_machine: bool) -> grpc.aio.Channel:
    """Without a fingerprint plaintext, on loopback only and only where central is on the `same_machine`: elsewhere the
    node's loopback is not this one, and who listens here is somebody else.

    Raises:
        CyxError: UNAVAILABLE when nobody answers there; FORBIDDEN for another certificate, or none beyond loopback.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0),
        # Channels of one process share connections by their target and options: not across certificates.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise invalid(f"The node's address {endpoint[:200]!r} is none")
    if not fingerprint:
        if not is_loopback(endpoint):
            raise CyxError(Code.FORBIDDEN, f"The node at {endpoint} named no certificate: nothing is sent in the open")
        if not same_machine:
            raise CyxError(Code.UNAVAILABLE, f"The node listens on {endpoint} of its own machine alone")
        return grpc.aio.insecure_channel(endpoint, options)
    shown = await _certificate(host, int(port))
    actual = f"sha256:{hashlib.sha256(shown).hexdigest()}"
    if actual != fingerprint:
        raise CyxError(
            Code.FORBIDDEN,
            f"Who answers at {endpoint} is not the node: its certificate is {actual}, central named {fingerprint[:80]}",
        )
    credentials = grpc.ssl_channel_credentials(ssl.DER_cert_to_PEM_cert(shown).encode())
    options.append(("grpc.ssl_target_name_override", _name(shown)))
    return grpc.aio.secure_channel(endpoint, credentials, options)


def is_loopback(address: str) -> bool:
    """Whether host:port is this machine's own."""
    return address.rpartition(":")[0].strip("[]").startswith(_LOOPBACK)


async def _certificate(host: str, port: int) -> bytes:
    """What a server shows, in DER, unchecked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CyxError(Code.UNAVAILABLE, f"The node at {host}:{port} does not answer ({reason})") from None
    return bytes(shown or b"")


def _name(certificate: bytes) -> str:
    """A name that the certificate is for: it is the certificate itself that is checked."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    read = x509.load_der_x509_certificate(certificate)
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return str(read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return found[0]
