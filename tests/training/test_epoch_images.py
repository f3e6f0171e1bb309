"""`epoch_images`: some images drawn for each epoch, and features of these alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_helpers import generalad_head, tiny_config

from generalad.errors import ConfigError
from generalad.training import material
from generalad.training.cache import Features, cached_features
from generalad.training.loop import batches, epoch_order, fit, images_seen
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]


def test_each_epoch_draws_other_images_and_drops_the_rest() -> None:
    config = tiny_config(epoch_images=10, batch_size=4, epochs=3)
    drawn = [batches(50, config, epoch) for epoch in range(3)]
    assert [len(batch) for epoch in drawn for batch in epoch] == [4] * 6
    seen = [set(epoch_order(50, config, epoch).tolist()) for epoch in range(3)]
    assert all(len(one) == 10 for one in seen)
    assert seen[0] != seen[1]
    assert set(images_seen(50, config).tolist()) == set.union(*seen)
    assert epoch_order(50, config, 0).tolist() == epoch_order(50, config, 0).tolist()


@pytest.mark.parametrize("images", [0, 50, 60])
def test_all_images_are_seen_where_there_are_no_more(images: int) -> None:
    config = tiny_config(epoch_images=images)
    assert images_seen(50, config).tolist() == list(range(50))
    assert sorted(epoch_order(50, config, 1).tolist()) == list(range(50))


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="epoch_images: expected at least 0"):
        tiny_config(epoch_images=-1)


def test_features_of_some_images_train_as_those_of_all(
    run_folder: Path, tiny_weights: Path
) -> None:
    from generalad.model.detector import Detector
    from generalad.model.weights import load_backbone

    config = tiny_config(epoch_images=6, batch_size=2, epochs=2)
    backbone = load_backbone(config, weights=tiny_weights)[0]
    values = np.random.default_rng(0).normal(size=(40, 16, 64)).astype(np.float16)
    numbers = images_seen(40, config)
    assert 6 < len(numbers) <= 12
    some = Features(values[numbers], None, True, 0, numbers=numbers, count=40)
    losses = []
    for features in (Features(values, None, True, 0), some):
        torch.manual_seed(0)
        head = generalad_head(Detector(config, backbone))
        losses.append(fit(head.discriminator, features, config, device=torch.device("cpu")))
    assert losses[0] == losses[1]
    with pytest.raises(AssertionError):
        some.batch(np.setdiff1d(np.arange(40), numbers)[:1], torch.device("cpu"))


def test_only_images_that_are_seen_pass_the_backbone(
    parts: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    original = cached_features

    def counting(*arguments: object, **options: object) -> Features:
        found = original(*arguments, **options)  # type: ignore[arg-type]
        computed.append(found.computed)
        return found

    monkeypatch.setattr(material, "cached_features", counting)
    config = tiny_config(epoch_images=4, batch_size=2, epochs=1)
    trained = train_detector(
        parts, tmp_path / "run", config, weights=tiny_weights, cache=tmp_path / "cache"
    )
    assert trained.spec.training_set.images > 4
    assert computed == [4]
