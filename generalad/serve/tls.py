"""`tls_context`: certificate and key of the service, proved before it starts.

The proof is a handshake with itself, in memory, with a client that trusts this certificate alone:
it fails where the certificate has expired, does not begin yet, or is not for servers.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from generalad.errors import UsageError
from generalad.files import read_file
from generalad.progress import Log, no_log

SOON = 14
"""Days before its end from which on a certificate is warned of."""

_RENEW = "renew it; where that is wrong, check this machine's clock"
_SHOW = "openssl x509 -in FILE -noout -text shows what it holds"


def tls_context(
    certificate: Path | None, key: Path | None, *, log: Log = no_log
) -> ssl.SSLContext | None:
    """What connections are encrypted with; None without files.

    Args:
        certificate: PEM, with those that lead to a known authority after it.
        key: PEM, not encrypted.
        log: told of a certificate that ends soon.

    Raises:
        UsageError: one file without the other, a file that is missing or something else, a key of
            another certificate, or a certificate that is not valid now or not for servers.
    """
    if certificate is None or key is None:
        if certificate is not None or key is not None:
            raise UsageError("--tls-cert and --tls-key go together", remedy="give both or none")
        return None
    chain = _read(certificate, "CERTIFICATE", "--tls-cert", "a certificate")
    if "ENCRYPTED" in _read(key, "PRIVATE KEY", "--tls-key", "a private key"):
        raise UsageError(
            f"--tls-key {key}: the key is encrypted, and nobody is there to be asked",
            remedy="openssl pkey -in FILE -out PLAIN, readable for the service alone",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"--tls-key {key}: not the key of the certificate in {certificate}",
                remedy="give the two that belong together",
            ) from error
        said = getattr(error, "reason", None) or str(error)
        raise UsageError(f"{certificate}, {key}: {said}", remedy=_SHOW) from error
    days = (_end_of(context, certificate, chain) - _now()).days
    if days < SOON:
        log(f"the certificate {certificate} ends in {days} days → {_RENEW}")
    return context


def _read(path: Path, mark: str, option: str, what: str) -> str:
    try:
        text = read_file(path).decode("ascii")
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}", remedy="check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{option} {path}: expected {what} as PEM, found something else",
            remedy="openssl x509 -inform DER -in FILE -out FILE.pem makes PEM of DER",
        ) from error
    if f"{mark}-----" not in text:
        other = "CERTIFICATE-----" in text or "PRIVATE KEY-----" in text
        raise UsageError(
            f"{option} {path}: expected {what} as PEM, found {'the other' if other else 'none'}",
            remedy="--tls-cert and --tls-key are exchanged" if other else _SHOW,
        )
    return text


def _end_of(server: ssl.SSLContext, certificate: Path, chain: str) -> datetime.datetime:
    """When the certificate ends, told by a handshake that must succeed."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=chain)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    try:
        for _ in range(4):
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        found = ends[0].getpeercert()
        assert found is not None
    except ssl.SSLCertVerificationError as error:
        raise UsageError(
            f"--tls-cert {certificate}: {error.verify_message}", remedy=_RENEW
        ) from error
    except ssl.SSLError as error:
        raise UsageError(f"--tls-cert {certificate}: {error.reason}", remedy=_SHOW) from error
    seconds = ssl.cert_time_to_seconds(str(found["notAfter"]))
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
