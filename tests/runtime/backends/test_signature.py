"""Signatures: what was signed is opened, and nothing else where a key is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import gad, one_line
from conftest import MakeArtifact

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from signature_helpers import Keys

from generalad.errors import ArtifactError, GadError, UsageError
from generalad.runtime.backends.open import open_session
from generalad.runtime.backends.signature import sign, signature_path, verify

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def artifact(tmp_path: Path, make_artifact: MakeArtifact) -> Path:
    return make_artifact(tmp_path)


def test_what_was_signed_is_verified_and_opened(
    artifact: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sign(artifact, keys.private)
    assert path == signature_path(artifact)
    assert list(verify(artifact, keys.public).files) == [artifact.name]
    monkeypatch.setenv("GAD_VERIFY_KEY", str(keys.public))
    open_session(artifact).close()


def test_a_key_that_is_asked_for_is_needed_to_open(
    artifact: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("GAD_VERIFY_KEY", str(keys.public))
    with pytest.raises(ArtifactError, match="is not signed"):
        open_session(artifact)
    sign(artifact, Keys(tmp_path, "other").private)
    with pytest.raises(ArtifactError, match="not by the key"):
        open_session(artifact)
    code, _, err = gad(capsys, "selftest", artifact)
    assert code == 1
    assert "not by the key" in one_line(err)
    monkeypatch.setenv("GAD_VERIFY_KEY", str(tmp_path / "none.pub"))
    with pytest.raises(UsageError, match=r"none\.pub"):
        open_session(artifact)


def test_a_changed_artifact_is_refused(artifact: Path, keys: Keys) -> None:
    sign(artifact, keys.private)
    artifact.write_bytes(artifact.read_bytes() + b"\x72\x00")
    with pytest.raises(ArtifactError, match=r"model\.onnx is not what was signed"):
        verify(artifact, keys.public)


def test_all_files_of_an_artifact_are_signed(tmp_path: Path, keys: Keys) -> None:
    model, weights = tmp_path / "model.xml", tmp_path / "model.bin"
    model.write_text("<net/>")
    with pytest.raises(ArtifactError, match=r"model\.bin: no such file"):
        sign(model, keys.private)
    weights.write_bytes(b"weights")
    sign(model, keys.private)
    assert list(verify(model, keys.public).files) == ["model.xml", "model.bin"]
    weights.write_bytes(b"Weights")
    with pytest.raises(ArtifactError, match=r"model\.bin is not what was signed"):
        verify(model, keys.public)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"signature": "AAAA"}, "not by the key"),
        ({"signature": "no base64!"}, "not by the key"),
        ({"files": {}}, "not by the key"),
        ({"format": 2}, "format 2"),
        ({"files": None}, "is no signature"),
    ],
)
def test_a_changed_signature_is_refused(
    artifact: Path, keys: Keys, change: dict[str, Any], words: str
) -> None:
    path = sign(artifact, keys.private)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=words):
        verify(artifact, keys.public)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_signature_is_told(artifact: Path, keys: Keys, content: bytes) -> None:
    signature_path(artifact).write_bytes(content)
    with pytest.raises(ArtifactError, match="is no signature"):
        verify(artifact, keys.public)


def test_a_signature_is_of_one_name(artifact: Path, keys: Keys) -> None:
    path = sign(artifact, keys.private)
    other = artifact.with_name("other.onnx")
    artifact.rename(other)
    path.rename(signature_path(other))
    with pytest.raises(ArtifactError, match="is not what was signed"):
        verify(other, keys.public)


def test_what_is_no_key_is_told(artifact: Path, keys: Keys, tmp_path: Path) -> None:
    other = Keys(tmp_path, "curve", generate_private_key(SECP256R1()))
    locked = tmp_path / "locked.key"
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    locked.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
    for wrong in (other.private, keys.public, locked, artifact, tmp_path / "none"):
        with pytest.raises(UsageError):
            sign(artifact, wrong)
    sign(artifact, keys.private)
    for wrong in (other.public, keys.private, artifact):
        with pytest.raises(GadError):
            verify(artifact, wrong)


def test_the_commands(artifact: Path, keys: Keys, capsys: Capture) -> None:
    code, _, err = gad(capsys, "verify", artifact, "--key", keys.public)
    assert code == 1
    assert "is not signed" in one_line(err)
    assert gad(capsys, "sign", artifact, "--key", keys.private)[0] == 0
    code, _, err = gad(capsys, "verify", artifact, "--key", keys.public)
    assert code == 0
    assert "model.onnx" in err
