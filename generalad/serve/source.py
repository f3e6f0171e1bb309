"""Where the wanted versions come from: a folder or a URL, told by a file `wanted.json`.

    {"washer": "2026-03.onnx", "board": "2026-02.onnx"}      model: name of the artifact's file

Artifacts lie beside it in a folder with the name of the model, with their signatures. From a URL
only signed ones are taken, see `runtime.backends.signature`.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from generalad import records
from generalad.errors import ArtifactError, DataError, UsageError
from generalad.files import atomic_write
from generalad.runtime.backends.signature import KEY_SETTING, verify
from generalad.runtime.secrets import redacted

WANTED = "wanted.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
_SMALL, _LARGEST = 1 << 20, 4 << 30
_TIMEOUT = 30.0
_COMPANIONS = {".onnx": (), ".xml": (".bin",), ".engine": (".engine.json",)}


class FleetSource:
    """A folder or a URL; asked by one thread."""

    def __init__(self, address: str) -> None:
        """Nothing is asked yet.

        Raises:
            UsageError: neither, or a URL without a key to verify signatures with.
        """
        self._address = address.rstrip("/")
        self._is_url = urlsplit(address).scheme in ("http", "https")
        if not self._is_url and not Path(address).is_dir():
            raise UsageError(
                f"{redacted(address)}: expected a folder, or an http(s) address",
                remedy="check the address",
            )
        if self._is_url and not os.environ.get(KEY_SETTING):
            raise UsageError(
                "artifacts from a URL must be signed",
                remedy=f"set {KEY_SETTING} to the public key",
            )

    def wanted(self) -> dict[str, str]:
        """Names of versions by model.

        Raises:
            DataError: it cannot be asked, or says something else.
        """
        text = b"".join(self._blocks(WANTED, most=_SMALL))
        try:
            found: Any = records.parse_json(text)
        except (records.RecordError, UnicodeDecodeError) as error:
            raise DataError(f"{self._shown(WANTED)}: {error}", remedy="correct the file") from error
        if not isinstance(found, dict) or not all(
            isinstance(name, str) and _NAME.fullmatch(name) and Path(name).suffix in _COMPANIONS
            for name in found.values()
        ):
            raise DataError(
                f"{self._shown(WANTED)}: expected names of artifacts by model",
                remedy='such as {"washer": "2026-03.onnx"}',
            )
        return found

    def fetch(self, model: str, version: str, folder: Path) -> None:
        """Bring an artifact with all its files into a folder, the artifact itself last.

        Raises:
            ArtifactError: it is not signed, where a key is asked for.
            DataError: a file is missing, or cannot be read.
            StorageError: it cannot be written.
        """
        if not _NAME.fullmatch(model) or not _NAME.fullmatch(version):
            raise DataError(f"{model}/{version}: is no name of an artifact")
        for name in self._names(model, version):
            place = folder / name
            with atomic_write(place) as temporary, temporary.open("wb") as file:
                for block in self._blocks(f"{model}/{name}", most=_LARGEST):
                    file.write(block)
        key = os.environ.get(KEY_SETTING)
        if key:
            try:
                verify(folder / version, key)
            except ArtifactError:
                for path in (folder / version, folder / f"{version}.sig"):
                    path.unlink(missing_ok=True)
                raise

    def _names(self, model: str, version: str) -> list[str]:
        """All files of an artifact, as its signature says, or as its kind has them."""
        signature = f"{version}.sig"
        try:
            said = json.loads(b"".join(self._blocks(f"{model}/{signature}", most=_SMALL)))
            names = list(said["files"])
        except DataError:
            names = [version, *(Path(version).stem + s for s in _COMPANIONS[Path(version).suffix])]
            return names[::-1]
        except (ValueError, TypeError, LookupError) as error:
            raise ArtifactError(f"{model}/{signature}: is no signature") from error
        if version not in names or not all(
            isinstance(name, str) and _NAME.fullmatch(name) for name in names
        ):
            raise ArtifactError(f"{model}/{signature}: is the signature of something else")
        return [*(name for name in names if name != version), signature, version]

    def _blocks(self, path: str, *, most: int) -> Iterator[bytes]:
        """A file in blocks, bounded; raises DataError."""
        read = 0
        try:
            with contextlib.closing(self._open(path)) as file:
                while block := file.read(1 << 20):
                    read += len(block)
                    if read > most:
                        raise DataError(f"{self._shown(path)}: larger than {most} bytes")
                    yield block
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise DataError(f"{self._shown(path)}: {reason}", remedy="check the source") from error

    def _open(self, path: str) -> IO[bytes]:
        if self._is_url:
            opener = urllib.request.build_opener(_NoRedirects)
            found: IO[bytes] = opener.open(f"{self._address}/{quote(path)}", timeout=_TIMEOUT)
            return found
        file = Path(self._address) / path
        if not file.is_file():  # a pipe would be waited for without end
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return file.open("rb")

    def _shown(self, path: str) -> str:
        return f"{redacted(self._address)}/{path}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Not followed: the address is what was configured."""
