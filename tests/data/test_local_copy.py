"""A dataset in a store of objects: copied once, whole, and never with a password in a message."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_helpers import Capture, gad, one_line
from conftest import MakeArtifact
from training_helpers import images_of, write_parts

fsspec = pytest.importorskip("fsspec")

from generalad.data.check import check_dataset  # noqa: E402
from generalad.data.dataset import Dataset, open_dataset  # noqa: E402
from generalad.data.local_copy import local_copy  # noqa: E402
from generalad.errors import DataError, StorageError  # noqa: E402
from generalad.runtime.backoff import Backoff  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Backoff, "delay", lambda *_: 0.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("sets") / "parts", train=4, good=1, bad=1)


@pytest.fixture
def store(parts: Path) -> Iterator[Any]:
    """The parts in a store, as the folder /b/parts."""
    found = fsspec.filesystem("memory")
    for path in images_of(parts):
        found.pipe_file(f"/b/parts/{path.relative_to(parts).as_posix()}", path.read_bytes())
    found.pipe_file("/b/parts/clip.mp4", b"not copied")
    found.pipe_file("/b/parts/.hidden/1.png", b"not copied")
    yield found
    found.rm("/b", recursive=True)


def tree(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in images_of(folder)}


def test_a_copy_is_the_original_and_only_what_changed_is_fetched_again(
    store: Any, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    get = store.get_file

    def counting(key: str, place: str, **options: Any) -> None:
        fetched.append(key)
        get(key, place, **options)

    monkeypatch.setattr(store, "get_file", counting)
    told: list[tuple[str, int, int]] = []
    found = open_dataset("memory://b/parts", progress=lambda *news: told.append(news))
    assert (found.name, found.origin) == ("parts", "memory://b/parts")
    assert tree(found.root) == tree(parts)
    assert sorted(one.name for one in found.root.iterdir()) == ["ground_truth", "test", "train"]
    assert len(fetched) == 7 and told[-1] == ("copying", 7, 7)
    assert check_dataset(found).fingerprint == check_dataset(open_dataset(parts)).fingerprint

    fetched.clear()
    store.pipe_file("/b/parts/train/good/000.png", (parts / "train/good/001.png").read_bytes())
    store.rm("/b/parts/train/good/003.png")
    (found.root / "train" / "good" / "002.png").write_bytes(b"torn")
    again = open_dataset("memory://b/parts")
    assert sorted(fetched) == [f"/b/parts/train/good/{name}.png" for name in ("000", "002")]
    assert [one.path.name for one in again.train] == ["000.png", "001.png", "002.png"]
    assert len(check_dataset(again).sha256) == 5


def test_a_fault_of_the_network_is_tried_again_and_then_one_line(
    store: Any, parts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    get, faults = store.get_file, {"/b/parts/train/good/001.png": 3}

    def flaky(key: str, place: str, **options: Any) -> None:
        get(key, place, **options)
        if faults.get(key, 0):
            faults[key] -= 1
            Path(place).write_bytes(b"half")
            if faults[key] % 2:
                raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(store, "get_file", flaky)
    assert tree(local_copy("memory://b/parts")) == tree(parts)
    faults["/b/parts/train/good/001.png"] = 100
    store.pipe_file("/b/parts/train/good/001.png", (parts / "train/good/000.png").read_bytes())
    code, _, err = gad(capsys, "data", "check", "memory://b/parts")
    assert code == 1
    assert one_line(err).startswith("gad: memory://b/parts/train/good/001.png: ")
    names = {one.name for one in (tmp_path / "cache").rglob("*") if "part" in one.suffix}
    assert not names  # nothing half-written
    faults.clear()
    assert len(tree(local_copy("memory://b/parts"))) == len(tree(parts))


def test_one_of_several_classes_is_copied_alone(store: Any) -> None:
    for name in ("bolt", "nut"):
        store.copy("/b/parts", f"/b/set/{name}", recursive=True)
    found = open_dataset("memory://b/set", "nut")
    assert (found.name, len(found.train)) == ("nut", 4)
    assert [one.name for one in found.root.parent.iterdir()] == ["nut"]
    both = local_copy("memory://b/set")
    assert sorted(one.name for one in both.iterdir()) == ["bolt", "nut"]


def test_a_table_lies_with_its_images(store: Any) -> None:
    store.pipe_file("/b/parts/good.csv", b"path,label\ntrain/good/000.png,good\n")
    assert len(open_dataset("memory://b/parts/good.csv").train) == 1


def test_the_commands_take_addresses(
    store: Any, make_artifact: MakeArtifact, tmp_path: Path, capsys: Capture
) -> None:
    code, out, err = gad(capsys, "data", "check", "memory://b/parts", "--json")
    assert (code, json.loads(out)["counts"]["train"]) == (0, 4)
    assert "memory://b/parts: 4 train" in err and "a copy of memory://b/parts" in err
    artifact, page = make_artifact(tmp_path), tmp_path / "report.html"
    code, out, _ = gad(capsys, "eval", artifact, "memory://b/parts", "--html", page, "--json")
    assert (code, json.loads(out)["data"]) == (0, "memory://b/parts")
    assert "memory://b/parts" in page.read_text("utf-8")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    code, _, err = gad(capsys, "figure", "memory://b/parts", artifact, "-o", tmp_path / "f.png")
    assert (code, (tmp_path / "f.png").is_file()) == (0, True), err


def test_an_export_is_verified_on_an_address(
    store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")

    def stop(*_: object, verify_on: Dataset, **__: object) -> None:
        assert len(verify_on.test) == 2
        raise DataError(f"{verify_on.origin}: as far as this test goes")

    monkeypatch.setattr("generalad.export.export.export_detector", stop)
    code, _, err = gad(capsys, "export", tmp_path, "--verify-on", "memory://b/parts")
    assert (code, err.splitlines()[-1]) == (1, "gad: memory://b/parts: as far as this test goes")


def test_a_table_is_made_of_the_classes_that_it_names(
    store: Any, tmp_path: Path, capsys: Capture
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    for name in ("bottle", "cable"):
        store.copy("/b/parts", f"/b/set/{name}", recursive=True)
    words = ("reproduce", "mvtec-ad", "--data", "memory://b/set", "--classes")
    code, _, err = gad(capsys, *words, "botle")
    assert code == 2 and not (tmp_path / "cache").exists()
    code, _, err = gad(capsys, *words, "cable,carpet", "--out", tmp_path / "out")
    assert code == 1
    assert err.splitlines()[-1].startswith(
        "gad: memory://b/set: MVTec AD has the class 'carpet', but"
    )


@pytest.mark.parametrize("name", ["../../evil.png", "a//b.png"])
def test_names_that_lead_elsewhere(store: Any, name: str, tmp_path: Path) -> None:
    store.store[f"/b/parts/{name}"] = store.store["/b/parts/train/good/000.png"]
    try:
        with pytest.raises(DataError, match="cannot be a file"):
            local_copy("memory://b/parts")
    finally:
        del store.store[f"/b/parts/{name}"]
    assert not list(tmp_path.rglob("evil.png"))


def test_what_is_not_there_or_too_much(
    store: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for address, said in (
        ("memory://none", "there is nothing"),
        ("memory://b/parts/clip.mp4/x", "there is nothing"),
    ):
        code, _, err = gad(capsys, "train", address)
        assert code == 1
        assert said in one_line(err)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(StorageError, match="GB are free"):
        local_copy("memory://b/parts")
    monkeypatch.setenv("GAD_MAX_MEGAPIXELS", "0.0001")
    store.pipe_file("/b/parts/train/good/000.png", bytes(2_000_000))
    with pytest.raises(DataError, match="expected at most"):
        local_copy("memory://b/parts")


@pytest.fixture
def server(parts: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server that lists its folders and asks for a password."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            asked.append(self.path)
            if self.headers.get("Authorization") != "Basic c2hpZnQ6czNjcmV0":
                self.send_error(401)
                return None
            return super().send_head()

        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(parts.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{served.server_port}/parts", asked
        served.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore")
def test_over_http_with_a_password_that_nobody_sees(
    server: tuple[str, list[str]], parts: Path, tmp_path: Path, capsys: Capture
) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    place, _ = server
    found = open_dataset(f"http://shift:s3cret@{place}")
    assert tree(found.root) == tree(parts)
    assert found.origin == f"http://***@{place}"
    code, out, err = gad(capsys, "data", "check", f"http://shift:s3cret@{place}", "--json")
    assert code == 0
    for wrong in (f"http://shift:s3cret@{place}/none", f"http://shift:wr0ng@{place}"):
        code, out, said = gad(capsys, "data", "check", wrong)
        assert code == 1
        err += one_line(said)
    assert "s3cret" not in out + err and "wr0ng" not in err
    assert not [one for one in tmp_path.rglob("*") if "s3cret" in one.name]


def test_a_folder_by_its_url(parts: Path) -> None:
    assert tree(open_dataset(f"file://{parts}").root) == tree(parts)


@pytest.mark.filterwarnings("ignore")
def test_a_server_of_s3(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    served.start()
    host, port = served.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-line")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-line")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        bucket = s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}")
        bucket.mkdir("line")
        bucket.put(str(parts), "line/parts", recursive=True)
        found = open_dataset("s3://line/parts")
        assert tree(found.root) == tree(parts)
        with pytest.raises(DataError, match="s3://line/none"):
            open_dataset("s3://line/none")
        with pytest.raises(DataError, match="s3://nobody/parts"):
            open_dataset("s3://nobody/parts")
    finally:
        served.stop()
