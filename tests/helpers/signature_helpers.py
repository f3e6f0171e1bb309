"""Keys for signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


class Keys:
    """A pair of keys as files."""

    def __init__(self, folder: Path, name: str = "gad", private: Any = None) -> None:
        private = private or Ed25519PrivateKey.generate()
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pub"
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.private.write_bytes(private.private_bytes(*form))
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public.write_bytes(public)
