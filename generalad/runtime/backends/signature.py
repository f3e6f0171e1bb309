"""Signatures of artifacts: who made them, told by a key (Ed25519, RFC 8032).

`sign` writes NAME.sig beside an artifact: the hashes of all its files and a signature over them.
Where `GAD_VERIFY_KEY` names a public key, no artifact is opened without a signature by it.
"""

from __future__ import annotations

import base64
import binascii
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generalad import records
from generalad.errors import ArtifactError, UsageError, require_extra
from generalad.files import read_file, sha256_of_bytes, sha256_of_file, write_json
from generalad.runtime.backends.engine_record import record_path
from generalad.runtime.backends.onnx_hash import weights_apart

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

KEY_SETTING = "GAD_VERIFY_KEY"
"""Environment variable: a PEM file with the public key that artifacts must be signed for."""

_FORMAT = 1
_LARGEST = 1 << 20
_MAKE_KEYS = (
    "openssl genpkey -algorithm ed25519 -out gad.key; openssl pkey -in gad.key -pubout -out gad.pub"
)


@dataclass(frozen=True)
class Signature:
    """What stands in NAME.sig.

    Attributes:
        format: raised by one when an older reader would misunderstand it.
        files: SHA-256 of each file of the artifact, by its name.
        key: fingerprint of the public key.
        signature: over the files, in base64.
    """

    format: int
    files: dict[str, str]
    key: str
    signature: str


def sign(artifact: str | Path, key: str | Path) -> Path:
    """Sign an artifact with a private key.

    Args:
        artifact: made by `gad export`; with it the files that belong to it.
        key: PEM file.

    Returns:
        The file with the signature.

    Raises:
        ArtifactError: a file of it is missing or damaged.
        MissingExtraError: cryptography is not installed.
        StorageError: the signature cannot be written.
        UsageError: no private key of Ed25519.
    """
    artifact, private = Path(artifact), _private(Path(key))
    files = _hashes(artifact)
    found = Signature(
        format=_FORMAT,
        files=files,
        key=_fingerprint(private.public_key()),
        signature=base64.b64encode(private.sign(_message(files))).decode("ascii"),
    )
    path = signature_path(artifact)
    write_json(path, json.loads(records.to_json(found)))
    return path


def verify(artifact: str | Path, key: str | Path) -> Signature:
    """Refuse an artifact that was not signed with a key, or was changed since.

    Args:
        artifact: with its signature beside it.
        key: PEM file with the public key.

    Raises:
        ArtifactError: it is not signed, by another key, or one of its files was changed.
        MissingExtraError: cryptography is not installed.
        UsageError: no public key of Ed25519.
    """
    artifact, public = Path(artifact), _public(Path(key))
    found = _read(artifact)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(base64.b64decode(found.signature, validate=True), _message(found.files))
    except (InvalidSignature, binascii.Error, ValueError) as error:
        whose = "" if found.key == _fingerprint(public) else f" (it names the key {found.key[:12]})"
        raise ArtifactError(
            f"{artifact}: the signature is not by the key in {key}{whose}",
            remedy="do not use it; ask who made it",
        ) from error
    files = _hashes(artifact)
    if files != found.files:
        changed = sorted(n for n in files | found.files if files.get(n) != found.files.get(n))
        raise ArtifactError(
            f"{artifact}: {' and '.join(changed)} is not what was signed",
            remedy="do not use it; copy the files again, or sign them after a change",
        )
    return found


def check_as_asked(artifact: Path) -> None:
    """`verify` with the key that the environment names; nothing without one."""
    key = os.environ.get(KEY_SETTING)
    if key:
        verify(artifact, key)


def signature_path(artifact: Path) -> Path:
    """Where the signature of an artifact lies."""
    return artifact.with_name(f"{artifact.name}.sig")


def signed_files(artifact: Path) -> list[Path]:
    """An artifact and all that it is run from.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    if not artifact.is_file():
        raise ArtifactError(f"{artifact}: no such file", remedy="check the path")
    suffix = artifact.suffix.lower()
    if suffix == ".xml":
        return [artifact, artifact.with_suffix(".bin")]
    if suffix == ".engine":
        return [artifact, record_path(artifact)]
    if suffix != ".onnx":
        raise UsageError(f"{artifact}: expected .onnx, .xml or .engine")
    with artifact.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ArtifactError(f"{artifact}: the file is empty", remedy="copy the file again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            apart = weights_apart(data)
    return [artifact, *(artifact.with_name(Path(name).name) for name in apart)]


def _hashes(artifact: Path) -> dict[str, str]:
    found = {}
    for path in signed_files(artifact):
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file", remedy="copy all files of the artifact")
        found[path.name] = sha256_of_file(path)
    return found


def _message(files: dict[str, str]) -> bytes:
    """What is signed: a word that no other use of the key has, and the files in order."""
    text = json.dumps(files, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"generalad artifact {_FORMAT}\n{text}".encode()


def _read(artifact: Path) -> Signature:
    path = signature_path(artifact)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
        found = records.from_json(data, Signature)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{artifact}: is not signed, {path.name} is missing",
            remedy="sign it with gad sign, or copy the signature with it",
        ) from error
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}", remedy="check the file") from error
    except (records.RecordError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: is no signature ({error})", remedy="sign it again") from error
    if found.format != _FORMAT:
        raise ArtifactError(
            f"{path}: format {found.format}, this version reads {_FORMAT}",
            remedy="pip install --upgrade generalad",
        )
    return found


def _private(path: Path) -> Ed25519PrivateKey:
    require_extra("a signature", "sign", "cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _loaded(path, lambda data: load_pem_private_key(data, None), "private")
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def _public(path: Path) -> Ed25519PublicKey:
    require_extra("a signature", "sign", "cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _loaded(path, load_pem_public_key, "public")
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def _loaded(path: Path, load: Any, kind: str) -> Any:
    try:
        return load(read_file(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", remedy="check the path") from error
    except (ValueError, TypeError) as error:  # no PEM, another kind, or with a password
        raise _no_key(path, kind) from error


def _no_key(path: Path, kind: str) -> UsageError:
    return UsageError(
        f"{path}: expected a {kind} key of Ed25519 in PEM, without a password", remedy=_MAKE_KEYS
    )


def _fingerprint(public: Ed25519PublicKey) -> str:
    return sha256_of_bytes(public.public_bytes_raw())
