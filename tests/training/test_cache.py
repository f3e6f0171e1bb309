"""The feature cache: computed once, resumed after a kill, never wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import training_helpers
from training_helpers import environment, generalad_head, images_of, start_python, tiny_config

from generalad.errors import StorageError
from generalad.files import sha256_of_file
from generalad.model.backbone import Backbone, normalise
from generalad.model.weights import load_backbone
from generalad.preprocess import read_image, resize
from generalad.training import cache as module
from generalad.training.cache import (
    Features,
    cache_key,
    cached_features,
    channel_spread,
    count_cached,
)
from generalad.training.loop import fit

pytest_plugins = ["training_fixtures"]
CPU = torch.device("cpu")
SIZE = (64, 64)


@pytest.fixture(scope="module")
def backbone(tiny_weights: Path) -> Backbone:
    return load_backbone(tiny_config(), weights=tiny_weights)[0]


@pytest.fixture(scope="module")
def paths(parts: Path) -> list[Path]:
    return images_of(parts / "train")


def compute(paths: list[Path], backbone: Backbone, folder: Path, **changes: Any) -> Features:
    options: dict[str, Any] = {
        "identity": {"name": "tiny"},
        "image_size": SIZE,
        "attention": False,
        "device": CPU,
        "folder": folder,
        "batch_size": 4,
    }
    hashes = [sha256_of_file(path) for path in paths]
    return cached_features(paths, hashes, backbone, **{**options, **changes})


def store_of(folder: Path) -> Path:
    (store,) = (folder / "features").iterdir()
    return store


def test_the_key_covers_every_ingredient(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(
        hashes: tuple[str, ...] = ("a", "b"),
        identity: dict[str, Any] | None = None,
        size: tuple[int, int] = SIZE,
        attention: bool = False,
        device: str = "cpu",
    ) -> str:
        identity = {"name": "n", "layers": [1], "weights": "w"} if identity is None else identity
        return cache_key(hashes, identity, size, attention=attention, device=torch.device(device))

    others = [
        key(hashes=("a", "c")),
        key(hashes=("b", "a")),
        key(hashes=("a",)),
        key(identity={"name": "m", "layers": [1], "weights": "w"}),
        key(identity={"name": "n", "layers": [2], "weights": "w"}),
        key(identity={"name": "n", "layers": [1], "weights": "v"}),
        key(size=(64, 96)),
        key(size=(96, 64)),
        key(attention=True),
        key(device="meta"),
    ]
    base = key()
    for name, value in (("CACHE_VERSION", 99), ("RESIZE_RULE", "other")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            others.append(key())
    for library in (torch, np, timm):
        with monkeypatch.context() as patch:
            patch.setattr(library, "__version__", "0.0")
            others.append(key())
    assert key() == base
    assert len({base, *others}) == len(others) + 1


def test_values_are_those_of_a_direct_pass(
    paths: list[Path], backbone: Backbone, tmp_path: Path
) -> None:
    found = compute(paths, backbone, tmp_path, attention=True)
    images = torch.from_numpy(np.stack([resize(read_image(path), SIZE) for path in paths]))
    with torch.inference_mode():
        pixels = normalise(images, backbone.mean, backbone.std)
        features, attention = backbone.features_and_attention(pixels)
    assert found.values.dtype == np.float16
    assert found.values.shape == (16, 16, 64)
    np.testing.assert_allclose(found.values, features.numpy(), rtol=2e-3, atol=2e-3)
    assert found.attention is not None
    assert found.attention.shape == attention.shape
    np.testing.assert_allclose(found.attention, attention.numpy(), rtol=2e-3, atol=1e-4)
    batch, weights = found.batch(np.array([3, 1]), CPU)
    assert batch.dtype == torch.float32
    assert weights is not None
    np.testing.assert_array_equal(batch.numpy(), found.values[[3, 1]].astype(np.float32))
    np.testing.assert_array_equal(weights.numpy(), found.attention[[3, 1]].astype(np.float32))


class Counting:
    """Counts the images that pass a backbone, and can fail after some."""

    def __init__(self, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images, self.limit = 0, 10**9
        original = backbone.forward

        def forward(images: torch.Tensor) -> torch.Tensor:
            # A single black image is how the cache finds out the shapes.
            if float(images.abs().std()) > 0 and len(images) > 1:
                if self.images + len(images) > self.limit:
                    raise KeyboardInterrupt
                self.images += len(images)
            return original(images)

        monkeypatch.setattr(backbone, "forward", forward)


def test_a_second_call_computes_nothing(
    paths: list[Path], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Counting(backbone, monkeypatch)
    steps: list[tuple[str, int, int]] = []
    first = compute(paths, backbone, tmp_path, progress=lambda *step: steps.append(step))
    assert (first.computed, count.images) == (16, 16)
    assert steps == [("features", done, 16) for done in (4, 8, 12, 16)]
    again = compute(paths, backbone, tmp_path)
    assert (again.computed, count.images) == (0, 16)
    np.testing.assert_array_equal(first.values, again.values)


def test_an_interrupted_fill_goes_on_where_it_stopped(
    paths: list[Path], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compute(paths, backbone, tmp_path / "whole", attention=True)
    count = Counting(backbone, monkeypatch)
    count.limit = 8
    with pytest.raises(KeyboardInterrupt):
        compute(paths, backbone, tmp_path / "cut", attention=True)
    count.limit = 10**9
    rest = compute(paths, backbone, tmp_path / "cut", attention=True)
    assert (rest.computed, count.images) == (8, 16)
    np.testing.assert_array_equal(rest.values, whole.values)
    np.testing.assert_array_equal(rest.attention, whole.attention)


FILL = """
import sys, time
from pathlib import Path
import torch
from training_helpers import images_of, tiny_config
from generalad.files import sha256_of_file
from generalad.model.weights import load_backbone
from generalad.training.cache import cached_features
parts, weights, folder, pause = sys.argv[1:]
backbone, _, _ = load_backbone(tiny_config(), weights=Path(weights))
paths = images_of(Path(parts) / "train")
def step(stage, done, total):
    print(done, flush=True)
    time.sleep(float(pause))
print("ready", flush=True)
found = cached_features(
    paths, [sha256_of_file(path) for path in paths], backbone, identity={"name": "tiny"},
    image_size=(64, 64), attention=False, device=torch.device("cpu"), folder=Path(folder),
    batch_size=4, progress=step)
print("computed", found.computed, flush=True)
"""


def fill(parts: Path, weights: Path, folder: Path, pause: float) -> Any:
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(Path(training_helpers.__file__).parent)
    return start_python(FILL, str(parts), str(weights), str(folder), str(pause), env=env)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_fill_goes_on_where_it_stopped(
    parts: Path, paths: list[Path], backbone: Backbone, tiny_weights: Path, tmp_path: Path
) -> None:
    process = fill(parts, tiny_weights, tmp_path / "cut", 60)
    lines = [process.stdout.readline().strip() for _ in range(2)]
    process.send_signal(signal.SIGKILL)
    err = process.communicate()[1]
    assert lines == ["ready", "4"], err
    whole = compute(paths, backbone, tmp_path / "whole")
    rest = compute(paths, backbone, tmp_path / "cut")
    # The kill came before the state of the batch was written, or after: one batch at most is lost.
    assert rest.computed in (12, 16)
    np.testing.assert_array_equal(rest.values, whole.values)


def test_two_processes_compute_once(
    parts: Path, paths: list[Path], backbone: Backbone, tiny_weights: Path, tmp_path: Path
) -> None:
    both = [fill(parts, tiny_weights, tmp_path, 0.2) for _ in range(2)]
    results = [process.communicate() for process in both]
    computed = sorted(out.splitlines()[-1] for out, _ in results)
    assert computed == ["computed 0", "computed 16"], results
    assert compute(paths, backbone, tmp_path).computed == 0


def test_a_budget_of_nothing_gives_maps_and_the_same_training(
    paths: list[Path], backbone: Backbone, tmp_path: Path
) -> None:
    from generalad.model.detector import Detector

    states = []
    for budget in (0, 1 << 30):
        found = compute(paths, backbone, tmp_path, budget=budget)
        assert found.in_memory == (budget > 0)
        assert isinstance(found.values, np.memmap) == (budget == 0)
        config = tiny_config()
        torch.manual_seed(0)
        discriminator = generalad_head(Detector(config, backbone)).discriminator
        fit(discriminator, found, config, device=CPU)
        states.append(discriminator.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_falls_back_to_memory(
    paths: list[Path], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = compute(paths, backbone, tmp_path / "a", attention=True)
    monkeypatch.setattr(os, "posix_fallocate", _full, raising=False)
    found = compute(paths, backbone, tmp_path / "b", attention=True)
    assert (found.in_memory, found.computed) == (True, 16)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.attention, expected.attention)
    assert not [p for p in store_of(tmp_path / "b").iterdir() if p.suffix == ".npy"]
    with pytest.raises(StorageError, match="the disk is full"):
        compute(paths, backbone, tmp_path / "b", attention=True, budget=1000)


def test_a_folder_that_cannot_be_written(
    paths: list[Path], backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    found = compute(paths, backbone, tmp_path / "file")
    assert (found.in_memory, found.computed) == (True, 16)
    with pytest.raises(StorageError):
        compute(paths, backbone, tmp_path / "file", budget=0)


def _state(text: str) -> Any:
    return lambda store: (store / "state.json").write_text(text)


def _changed_state(**changes: Any) -> Any:
    def damage(store: Path) -> None:
        state = json.loads((store / "state.json").read_text())
        (store / "state.json").write_text(json.dumps({**state, **changes}))

    return damage


def _cut_array(store: Path) -> None:
    data = (store / "features.npy").read_bytes()
    (store / "features.npy").write_bytes(data[: len(data) // 2])


DAMAGES = {
    "no state": lambda store: (store / "state.json").unlink(),
    "half a state": _state('{"done": 16, "sha'),
    "another state": _state("[1, 2]"),
    "binary state": lambda store: (store / "state.json").write_bytes(b"\xff\xfe\x00"),
    "too many done": _changed_state(done=99),
    "negative done": _changed_state(done=-4),
    "no shapes": _changed_state(shapes={}),
    "array gone": lambda store: (store / "features.npy").unlink(),
    "array cut off": _cut_array,
    "array empty": lambda store: (store / "features.npy").write_bytes(b""),
    "array foreign": lambda store: (store / "features.npy").write_bytes(b"x" * 1000),
    "array of another shape": lambda store: np.save(
        store / "features.npy", np.zeros((16, 2, 2), np.float16)
    ),
    "array of another type": lambda store: np.save(
        store / "features.npy", np.zeros((16, 16, 64), np.float32)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_starts_over(
    paths: list[Path], backbone: Backbone, tmp_path: Path, damage: str
) -> None:
    first = compute(paths, backbone, tmp_path)
    DAMAGES[damage](store_of(tmp_path))
    again = compute(paths, backbone, tmp_path)
    assert again.computed == 16
    np.testing.assert_array_equal(again.values, first.values)
    assert compute(paths, backbone, tmp_path).computed == 0


def test_the_default_folder_is_the_user_s_cache(
    paths: list[Path], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "mine"))
    compute(paths, backbone, folder=None)  # type: ignore[arg-type]
    assert store_of(tmp_path / "mine").is_dir()


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_spread_of_channels(offset: float) -> None:
    values = np.random.default_rng(0).normal(offset, (0.5, 3.0), (7, 16, 2)).astype(np.float16)
    expected = values.astype(np.float64).reshape(-1, 2).std(axis=0)
    np.testing.assert_allclose(channel_spread(list(values)).numpy(), expected, rtol=1e-5)


def test_images_in_the_cache_are_counted(
    paths: list[Path], backbone: Backbone, tmp_path: Path
) -> None:
    hashes = [sha256_of_file(path) for path in paths]
    options: dict[str, Any] = {"attention": False, "device": torch.device("cpu")}
    identity = {"name": "tiny", "weights": "a"}
    assert count_cached(hashes, identity, SIZE, folder=tmp_path, **options) == 0
    cached_features(
        paths, hashes, backbone, identity=identity, image_size=SIZE, folder=tmp_path, **options
    )
    assert count_cached(hashes, identity, SIZE, folder=tmp_path, **options) == len(paths)
    changed = {**identity, "mean": (0.5, 0.5, 0.5)}
    assert count_cached(hashes, changed, SIZE, folder=tmp_path, **options) == 0


def test_images_of_another_list_are_copied_and_not_computed(
    paths: list[Path], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compute(paths[:10], backbone, tmp_path, attention=True)
    count = Counting(backbone, monkeypatch)
    options: dict[str, Any] = {"attention": False, "device": CPU, "folder": tmp_path}
    other = [*paths[12:], *paths[6:8], paths[0]]  # 4 new ones among 7, in another order
    hashes = [sha256_of_file(path) for path in other]
    assert count_cached(hashes, {"name": "tiny"}, SIZE, **{**options, "attention": True}) == 3
    assert count_cached(hashes, {"name": "tiny"}, SIZE, **options) == 0
    found = compute(other, backbone, tmp_path, attention=True)
    assert (found.computed, count.images) == (4, 4)
    np.testing.assert_array_equal(found.values[4:], whole.values[[6, 7, 0]])
    assert found.attention is not None and whole.attention is not None
    np.testing.assert_array_equal(found.attention[4:], whole.attention[[6, 7, 0]])
    alone = compute(other, backbone, tmp_path / "alone", attention=True)
    np.testing.assert_allclose(found.values, alone.values, rtol=2e-3, atol=2e-3)
    # Of another backbone, nothing is taken.
    assert compute(other, backbone, tmp_path, identity={"name": "other"}).computed == 7


def test_what_a_killed_pass_has_done_is_lent(
    paths: list[Path], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Counting(backbone, monkeypatch)
    count.limit = 8
    with pytest.raises(KeyboardInterrupt):
        compute(paths, backbone, tmp_path)
    count.limit = 10**9
    assert compute(paths[::-1], backbone, tmp_path).computed == 8
    assert compute(paths, backbone, tmp_path).computed == 0
    assert count.images == 16


def test_damaged_lists_lend_nothing(paths: list[Path], backbone: Backbone, tmp_path: Path) -> None:
    compute(paths, backbone, tmp_path)
    (store_of(tmp_path) / "images.txt").write_text("other\n")
    assert compute(paths[:4], backbone, tmp_path).computed == 4
