"""An artifact with another spec: the network stays as it is, byte by byte.

A copy is written beside or elsewhere, never over an existing file; only what a device verified of
an artifact is recorded in itself. Neither needs the library of the format: an ONNX file is walked
field by field, the XML of OpenVINO parsed, and the spec of an engine lies in a file of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from generalad.errors import ArtifactError, UsageError
from generalad.files import (
    atomic_write,
    check_writable,
    open_claimed,
    sha256_of_file,
    storage_error,
)
from generalad.runtime.backends.engine_record import read_record, record_path
from generalad.runtime.backends.onnx_hash import check_unchanged, weights_apart
from generalad.runtime.backends.protobuf import field, fields
from generalad.spec import METADATA_KEY, Spec

_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
"""Numbers of the fields in ONNX's protobuf: the metadata of a model, and the parts of an entry."""

_BLOCK = 1 << 22


def check_copy(old: Path, new: Path) -> None:
    """Refuse a place for a copy before any work is done.

    Raises:
        StorageError: nothing can be written there, or the disk has no room for it.
        UsageError: another kind of file, or one of its files is there already.
    """
    if new.suffix.lower() != old.suffix.lower():
        raise UsageError(f"{new}: expected a name that ends in {old.suffix}, as {old.name} does")
    for path in (new, *_companions(new)):
        if os.path.lexists(path):
            raise UsageError(
                f"{path} exists already, and no artifact is overwritten",
                remedy="choose another name, such as one with the date",
            )
    check_writable(new)
    needed = sum(path.stat().st_size for path in (old, *_companions(old)) if path.is_file())
    if shutil.disk_usage(new.parent).free < needed:
        raise storage_error(OSError(errno.ENOSPC, ""), new)


def copy_with_spec(old: Path, new: Path, spec: Spec) -> None:
    """Write a copy of an artifact with another spec; the file named `new` comes last.

    What lies beside an artifact goes with it: the weights of OpenVINO and of large ONNX files, the
    ONNX file that an engine was built from.

    Args:
        old: .onnx, .xml or .engine; it is only read.
        new: a file that does not exist, with the same suffix.
        spec: what the copy is to carry.

    Raises:
        ArtifactError: the artifact is damaged.
        StorageError: the copy cannot be written.
        UsageError: see `check_copy`.
    """
    check_copy(old, new)
    {".onnx": _onnx, ".xml": _openvino, ".engine": _engine}[old.suffix.lower()](old, new, spec)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes from recording something in an artifact meanwhile.

    Raises:
        ArtifactError: there is no such file.
        StorageError: nothing can be written beside it.
        UsageError: another process is at it, or it is an engine.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file", remedy="check the path")
    if path.suffix.lower() not in _REWRITE:
        raise UsageError(
            f"{path.name}: expected {' or '.join(_REWRITE)}, an engine has its precision in its"
            " graph"
        )
    check_writable(path)
    claim = path.with_name(f".{path.name}.claim")
    try:
        file = open_claimed(claim)
    except OSError as error:
        raise storage_error(error, claim) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            claim.unlink()
        file.close()


def replace_spec(path: Path, spec: Spec) -> None:
    """Give an artifact another spec, whole or not at all; hold it with `claimed` meanwhile.

    Raises:
        ArtifactError: the artifact is damaged.
        StorageError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        _REWRITE[path.suffix.lower()](path, temporary, spec)


def _companions(path: Path) -> list[Path]:
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return [path.with_suffix(".bin")]
    return [record_path(path), path.with_suffix(".onnx")] if suffix == ".engine" else []


def _copy(old: Path, new: Path) -> None:
    with atomic_write(new) as temporary:
        shutil.copyfile(old, temporary)


def _onnx(old: Path, new: Path, spec: Spec) -> None:
    if new.parent.resolve() != old.parent.resolve():
        check_unchanged(old)
        with old.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            apart = weights_apart(data)
        for name in apart:
            if not new.with_name(name).exists():  # named by its content
                _copy(old.with_name(name), new.with_name(name))
    with atomic_write(new) as temporary:
        _rewrite_onnx(old, temporary, spec)


def _rewrite_onnx(old: Path, new: Path, spec: Spec) -> None:
    """One file with another spec; weights apart are found by their names."""
    check_unchanged(old)
    with old.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start, end = _spec_entry(data, old)
        with new.open("wb") as out:
            out.writelines(data[i : min(i + _BLOCK, start)] for i in range(0, start, _BLOCK))
            out.write(_entry(METADATA_KEY, spec.to_json()))
            out.write(data[end:])
    check_unchanged(new)


def _spec_entry(data: mmap.mmap, path: Path) -> tuple[int, int]:
    """Where the metadata entry with the spec begins and ends."""
    try:
        for number, start, content, end in fields(data, 0, len(data)):
            if number != _METADATA_PROPS:
                continue
            for part, _, first, last in fields(data, content, end):
                if part == _KEY and data[first:last] == METADATA_KEY.encode():
                    return start, end
    except (IndexError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not an ONNX file, or damaged", remedy="copy the file again"
        ) from error
    raise ArtifactError(f"{path}: holds no generalad spec", remedy="make one with gad export")


def _entry(key: str, value: str) -> bytes:
    """A metadata entry."""
    content = field(_KEY, key.encode()) + field(_VALUE, value.encode())
    return field(_METADATA_PROPS, content)


def _openvino(old: Path, new: Path, spec: Spec) -> None:
    with atomic_write(new) as temporary:
        _rewrite_xml(old, temporary, spec)
        _copy(old.with_suffix(".bin"), new.with_suffix(".bin"))


def _rewrite_xml(old: Path, new: Path, spec: Spec) -> None:
    from xml.etree import ElementTree

    try:
        tree = ElementTree.parse(old)
    except ElementTree.ParseError as error:
        raise ArtifactError(
            f"{old}: not an OpenVINO model, or damaged ({error})", remedy="copy both files again"
        ) from error
    entry = tree.find("rt_info/generalad/spec")
    if entry is None:
        raise ArtifactError(f"{old}: holds no generalad spec", remedy="make one with gad export")
    entry.set("value", spec.to_json())
    tree.write(new, encoding="utf-8", xml_declaration=True)


_REWRITE = {".onnx": _rewrite_onnx, ".xml": _rewrite_xml}
"""How to write one file with another spec, by its suffix."""


def _engine(old: Path, new: Path, spec: Spec) -> None:
    record = dataclasses.replace(read_record(old), spec=spec)
    onnx, source = new.with_suffix(".onnx"), old.with_name(record.onnx)
    # With it, or an engine that is built again would come back to the old thresholds.
    if source.is_file() and sha256_of_file(source) == record.onnx_sha256:
        _onnx(source, onnx, spec)
        record = dataclasses.replace(record, onnx=onnx.name, onnx_sha256=sha256_of_file(onnx))
    with atomic_write(record_path(new)) as temporary:
        temporary.write_text(record.to_json(), encoding="utf-8")
    _copy(old, new)
