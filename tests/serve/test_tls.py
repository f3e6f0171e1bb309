"""HTTPS: certificates that work, and those that are told before the service starts."""

from __future__ import annotations

import datetime
import http.client
import ssl
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import gad, one_line

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("cryptography", reason="cryptography is not installed")
from serve_helpers import golden_artifact, running

from generalad.errors import UsageError
from generalad.serve.tls import tls_context

TOKEN = "a-token-of-enough-letters"


def write(
    folder: Path, name: str = "part", *, begins: int = -1, ends: int = 365, client: bool = False
) -> tuple[Path, Path]:
    """A certificate of this machine and its key; days from now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    whose = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    made = (
        x509.CertificateBuilder()
        .subject_name(whose)
        .issuer_name(whose)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    certificate, private = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private


def test_requests_are_encrypted_and_others_get_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GAD_TOKEN", TOKEN)
    files: Any = dict(zip(("tls_cert", "tls_key"), write(tmp_path), strict=True))
    artifact = golden_artifact(tmp_path / "model.onnx")
    with running(
        artifact, token=TOKEN, reference="${GAD_TOKEN}", serving=files, client_timeout=0.5
    ) as client:
        trusting = ssl.create_default_context(cafile=str(files["tls_cert"]))
        with client.connect() as bare:  # which does not begin a handshake, and is hung up on
            asked = http.client.HTTPSConnection("localhost", client.port, context=trusting)
            asked.request("GET", "/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
            answer = asked.getresponse()
            assert (answer.status, b"model" in answer.read()) == (200, True)
            assert asked.sock.version() in ("TLSv1.2", "TLSv1.3")
            asked.close()
            assert bare.recv(100) == b""
        plain = http.client.HTTPConnection("localhost", client.port, timeout=20)
        plain.request("GET", "/healthz")
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            plain.getresponse()
        plain.close()
    assert capsys.readouterr().err == ""


def test_a_token_in_the_clear_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GAD_TOKEN", TOKEN)
    artifact = golden_artifact(tmp_path / "model.onnx")
    options: Any = {"token": TOKEN, "reference": "${GAD_TOKEN}"}
    with running(artifact, **options, serving={"host": "0.0.0.0"}):
        pass
    assert capsys.readouterr().err.count("in the clear → --tls-cert") == 1
    with running(artifact, **options):
        pass
    assert capsys.readouterr().err == ""


def test_files_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, key = write(tmp_path)
    other = write(tmp_path / "other")[1]
    nothing, binary = tmp_path / "nothing.pem", tmp_path / "binary.pem"
    nothing.write_text("-----BEGIN NOTHING-----\n")
    binary.write_bytes(bytes(range(256)))
    torn = tmp_path / "torn.pem"
    torn.write_text(good.read_text()[:200] + "\n-----END CERTIFICATE-----\n")
    locked = tmp_path / "locked.key"
    locked.write_text(key.read_text().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))
    for certificate, private, said in (
        (good, tmp_path / "none.key", "No such file"),
        (tmp_path / "none.pem", key, "No such file"),
        (tmp_path, key, "Is a directory"),
        (nothing, key, "found none"),
        (binary, key, "expected a certificate as PEM"),
        (key, good, "are exchanged"),
        (good, other, "not the key of the certificate"),
        (torn, key, "torn.pem"),
        (good, locked, "is encrypted"),
        (*write(tmp_path / "a", ends=-1, begins=-9), "certificate has expired"),
        (*write(tmp_path / "b", begins=2), "certificate is not yet valid"),
        (*write(tmp_path / "c", client=True), "purpose"),
    ):
        code, _, err = gad(
            capsys, "serve", "none.onnx", "--tls-cert", certificate, "--tls-key", private
        )
        assert code == 2, said
        assert said in one_line(err)
    for one in (["--tls-cert", good], ["--tls-key", key]):
        code, _, err = gad(capsys, "serve", "none.onnx", *one)
        assert code == 2
        assert "go together" in one_line(err)


def test_one_that_ends_soon_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    assert tls_context(*write(tmp_path, ends=5), log=told.append) is not None
    assert "ends in 4 days" in told[0]
    told.clear()
    assert tls_context(*write(tmp_path), log=told.append) is not None
    assert tls_context(None, None) is None and told == []
    with pytest.raises(UsageError):
        tls_context(tmp_path, None)
