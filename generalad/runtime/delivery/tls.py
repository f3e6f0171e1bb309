"""`tls_context`: who is trusted, and who we are, on an encrypted connection."""

from __future__ import annotations

import ssl
from pathlib import Path

from generalad.errors import UsageError


def tls_context(
    ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Certificates are always checked, and so is the name of the host.

    Args:
        ca: certificates to trust, PEM; None trusts those of the system.
        certificate: our own with its chain, PEM; None shows none.
        key: of our certificate, PEM without a passphrase.

    Raises:
        UsageError: a file that cannot be used.
    """
    if (certificate is None) != (key is None):
        raise UsageError("a client certificate needs both its certificate and its key")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise _unusable(ca, error) from None
    if certificate is not None:
        try:
            # An empty passphrase: without one, OpenSSL would ask on the terminal and wait.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            raise _unusable(f"{certificate} with {key}", error) from None
    return context


def _unusable(what: object, error: Exception) -> UsageError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return UsageError(
        f"{what}: cannot be used for an encrypted connection"
        + (f" ({str(reason).lower().replace('_', ' ')})" if reason else ""),
        remedy="expected PEM files, a key without a passphrase",
    )
