"""Files appear whole or not at all, whatever happens in between."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import start_python

from generalad.errors import ArtifactError, ConfigError, StorageError
from generalad.files import (
    atomic_write,
    check_place,
    make_folder,
    read_file,
    read_json,
    sha256_of_bytes,
    sha256_of_file,
    write_json,
)
from generalad.records import read_toml
from generalad.runtime import AnnotatedVideo, Csv, JsonLines
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.videos.video_file import VideoFile


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_with_its_folder(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "a.bin"
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".bin"
        assert temporary.parent == target.parent
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(target.parent) == ["a.bin"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(KeyError), atomic_write(target) as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    before = target.stat().st_ino
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"new")
        made = temporary.stat().st_ino
    assert target.stat().st_ino == made != before, "renamed, not copied"


def test_ctrl_c_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


KILLED = """
import sys, time
from pathlib import Path
from generalad.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    file = temporary.open("wb")
    while True:
        file.write(b"x" * 65536)
        file.flush()
        print("writing", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    process = start_python(KILLED, str(target))
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert target.read_bytes() == b"old"
    # What the kill leaves behind is hidden and is no obstacle to the next attempt.
    assert all(name.startswith(".") for name in names(tmp_path) if name != "a.bin")
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_storage_problems_are_named_with_a_remedy(tmp_path: Path, code: int, reason: str) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(StorageError, match=reason) as caught, atomic_write(target) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(code, os.strerror(code))
    assert str(target) in caught.value.message
    assert caught.value.remedy
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_place_is_tried_before_long_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_place(tmp_path / "runs" / "parts")
    assert names(tmp_path) == []
    asked: list[Path] = []

    def access(path: Path, mode: int) -> bool:
        asked.append(path)
        return False

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(StorageError, match="no permission to write"):
        check_place(tmp_path / "runs" / "parts")
    assert asked == [tmp_path]


def test_a_disk_that_fills_up_while_syncing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write_json(tmp_path / "a.json", {"a": 1})
    assert names(tmp_path) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
from generalad.errors import StorageError
from generalad.files import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with atomic_write(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(b"x" * 100_000)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_real_refusal_of_the_system(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    out, err = start_python(LIMITED, str(target)).communicate()
    assert "cannot write" in out, err
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"in the way|part of the path is a file"):
        make_folder(tmp_path / "file")
    with pytest.raises(StorageError), atomic_write(tmp_path / "file" / "a.bin"):
        pass


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(StorageError), atomic_write(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"x")
    assert names(tmp_path) == ["a.bin"]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"ä": [1, 2]})
    assert read_json(path) == {"ä": [1, 2]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": [1, 2]}


def test_unreadable_json_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no\.json"):
        read_json(tmp_path / "no.json")
    (tmp_path / "bad.json").write_bytes(b'{"a": \xff')
    with pytest.raises(ArtifactError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")


@given(st.binary(max_size=100))
def test_hashes_are_sha256(data: bytes) -> None:
    assert sha256_of_bytes(data) == hashlib.sha256(data).hexdigest()


def test_the_hash_of_a_file_longer_than_a_block(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with a name there")
@pytest.mark.parametrize("option", ["json", "csv", "video", "write_json"])
def test_a_pipe_is_not_replaced_and_not_waited_for(tmp_path: Path, option: str) -> None:
    pipe = tmp_path / ("a.mp4" if option == "video" else "a.json")
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match=r"a\.(json|mp4): a pipe, a device or a socket"):
        if option == "write_json":
            write_json(pipe, {})
        else:
            sinks = {"json": JsonLines, "csv": Csv, "video": AnnotatedVideo}
            sinks[option](pipe).open([VideoFile(tmp_path / "v.mp4")], fake_spec())
    assert pipe.is_fifo() and names(tmp_path) == [pipe.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_is_read_and_one_that_is_silent_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generalad.files._PIPE_WITHIN", 0.05)
    os.mkfifo(tmp_path / "p.json")
    with pytest.raises(ArtifactError, match="nothing comes out of this pipe"):
        read_json(tmp_path / "p.json")
    with pytest.raises(ConfigError, match="nothing comes out of this pipe"):
        read_toml(tmp_path / "p.json")
    reader, writer = os.pipe()
    os.write(writer, b"batch = 2\n")
    os.close(writer)
    assert read_toml(Path(f"/dev/fd/{reader}")) == {"batch": 2}
    os.close(reader)
    assert len(read_file(Path("/dev/zero"), 1000)) == 1001
    with pytest.raises(OSError, match="directory"):
        read_file(tmp_path)
    for name in (tmp_path / "p.json", Path("/dev/zero")):
        with pytest.raises(OSError, match="expected a file"):
            sha256_of_file(name)
