"""Who may talk to the OPC UA server, and how it is encrypted."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions

from generalad.errors import UsageError
from generalad.runtime.secrets import Secret

APPLICATION = "urn:generalad"
"""URI of the application, where a certificate names no other."""

ENCRYPTED = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]


@dataclass(frozen=True)
class Security:
    """How clients prove who they are; nothing of it is right for loopback only.

    Attributes:
        certificate: of the server, PEM or DER; with it every connection is encrypted.
        key: of the certificate, PEM without a passphrase.
        trusted: folder with the certificates of clients that may connect; None is any.
        user: that clients must name; None lets them be anonymous.
        password: of the user.
    """

    certificate: Path | None = None
    key: Path | None = None
    trusted: Path | None = None
    user: str | None = None
    password: Secret | None = None


class _Users:
    """Who is let in; the last door, which every session has to pass.

    The library's own would make an administrator of whoever says "admin". And the library opens a
    channel without encryption for whoever asks, though no endpoint offers one, and does not look
    at the certificate of a channel whose client leaves it out when it asks for a session.
    """

    def __init__(self, security: Security) -> None:
        self._security = security
        self.trusted: TrustStore | None = None

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,
    ) -> User | None:
        """A plain user, or None; `certificate` is the channel's, None without encryption."""
        if self._security.certificate is not None and certificate is None:
            return None
        if self._security.trusted is not None and not self._trusts(certificate):
            return None
        if self._security.user is None:
            return User(role=UserRole.User)
        expected = self._security.password.reveal() if self._security.password else ""
        given = (username or "", password or "")
        same = [
            hmac.compare_digest(one.encode(), other.encode())
            for one, other in zip(given, (self._security.user, expected), strict=True)
        ]
        return User(role=UserRole.User, name=self._security.user) if all(same) else None

    def _trusts(self, certificate: bytes) -> bool:
        from cryptography import x509

        if self.trusted is None:
            return False
        try:
            return bool(self.trusted.is_trusted(x509.load_der_x509_certificate(certificate)))
        except ValueError:
            return False


def make_server(security: Security) -> Server:
    """A server that knows its users, before anything of it is opened."""
    server = Server(user_manager=_Users(security))
    server.allow_remote_admin(False)
    return server


async def secure(server: Server, security: Security) -> None:
    """Set certificates and policies.

    Raises:
        UsageError: a certificate or key that cannot be used.
    """
    tokens: list[type] = [ua.UserNameIdentityToken if security.user else ua.AnonymousIdentityToken]
    server.set_identity_tokens(tokens)
    if security.certificate is None or security.key is None:
        await server.set_application_uri(APPLICATION)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        return
    try:
        await server.load_certificate(security.certificate)
        await server.load_private_key(security.key)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "not a certificate with its key"
        raise UsageError(
            f"{security.certificate} with {security.key}: {reason}",
            remedy="expected PEM files, a key without a passphrase",
        ) from None
    await server.set_application_uri(_uri(server.iserver.certificate) or APPLICATION)
    server.set_security_policy(list(ENCRYPTED))
    if security.trusted is not None:
        trusted = TrustStore([security.trusted], [])
        await trusted.load()
        server.iserver.user_manager.trusted = trusted
        options = (
            CertificateValidatorOptions.TRUSTED_VALIDATION | CertificateValidatorOptions.PEER_CLIENT
        )
        server.set_certificate_validator(CertificateValidator(options, trusted))


def _uri(certificate: Any) -> str | None:
    """The application's URI that a certificate names."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    found: list[str] = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return found[0] if found else None
