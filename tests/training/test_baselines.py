"""SimpleNet and KDAD from a folder of images to a detector: formulas, gradients, resuming."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from training_helpers import TINY, tiny_config

from generalad.config import PRESETS, Config
from generalad.errors import ConfigError
from generalad.model.heads import KDADHead, SimpleNetHead
from generalad.model.heads.kdad import squared_difference
from generalad.preprocess import read_image
from generalad.training import images as images_module
from generalad.training import kdad, simplenet
from generalad.training.cache import Features
from generalad.training.images import Images
from generalad.training.run_folder import CHECKPOINT_FILE
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]

METHODS = ("simplenet", "kdad")
CPU = torch.device("cpu")


def config_of(method: str, **changes: Any) -> Config:
    """The method's own schedule, short, on a tiny ViT."""
    tiny = tiny_config()
    small = {"backbone": TINY, "layers": [2], "image_size": [64, 64], "hidden": 16, "epochs": 3}
    smooth = {"smoothing_sigma": tiny.smoothing_sigma, "smoothing_radius": tiny.smoothing_radius}
    return PRESETS[method].replaced({**small, **smooth, "batch_size": 4, **changes})


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(
    method: str, parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "training" and (tmp_path / "a" / CHECKPOINT_FILE).exists():
            raise Killed

    given: dict[str, Any] = {"weights": tiny_weights, "cache": cache}
    with pytest.raises(Killed):
        train_detector(parts, tmp_path / "a", config_of(method), progress=kill, **given)
    seen: list[tuple[int, int]] = []
    resumed = train_detector(
        parts,
        tmp_path / "a",
        config_of(method),
        progress=lambda stage, *counts: seen.append(counts) if stage == "training" else None,
        **given,
    )
    assert seen[0][0] > 1 and seen[-1][0] == seen[-1][1], seen
    torch.manual_seed(5)  # the state of the caller must not matter
    straight = train_detector(parts, tmp_path / "b", config_of(method), **given)
    ours, theirs = (load_file(run.folder / "trained.safetensors") for run in (resumed, straight))
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert resumed.spec.thresholds == straight.spec.thresholds
    assert resumed.spec.method == {"simplenet": "SimpleNet", "kdad": "KDAD"}[method]
    losses = json.loads((resumed.folder / "history.json").read_text())["loss"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    other = train_detector(parts, tmp_path / "c", config_of(method, seed=1), **given)
    assert not all(
        torch.equal(theirs[name], value)
        for name, value in load_file(other.folder / "trained.safetensors").items()
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_larger_than_the_data_set_and_batches_of_one(
    method: str, parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    for size in (64, 1):
        config = config_of(method, batch_size=size, epochs=1)
        made = train_detector(
            parts, tmp_path / str(size), config, weights=tiny_weights, cache=cache
        )
        assert np.isfinite(made.spec.thresholds.image)


@pytest.mark.parametrize("method", METHODS)
def test_they_tell_a_spot_from_none(
    method: str, parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    """Good images and images with a square on them, ranked by a detector of some epochs."""
    from generalad.evaluation import evaluate

    config = config_of(method, epochs=30, hidden=32, noise_std=0.3, layers=[4])
    made = train_detector(parts, tmp_path / "run", config, weights=tiny_weights, cache=cache)
    found = evaluate(made.folder, parts)
    assert found.evaluation.image_auroc.value > 0.9


def features_of(count: int, *, patches: int = 6, dim: int = 8, seed: int = 0) -> Features:
    values = np.random.default_rng(seed).normal(size=(count, patches, dim)).astype(np.float16)
    return Features(values, None, True, count)


def simplenet_head(*, blocks: int = 1, dim: int = 8) -> SimpleNetHead:
    torch.manual_seed(0)
    config = config_of("simplenet", hidden=5, blocks=blocks)
    return SimpleNetHead(config, (2, 3), dim).double()


def kdad_head(*, dim: int = 8) -> KDADHead:
    torch.manual_seed(0)
    config = config_of("kdad", image_size=[16, 24], heads=2, hidden=5, blocks=2, dropout=0.0)
    return KDADHead(config, (2, 3), dim).double()


def plain_discriminator(head: SimpleNetHead, adapted: Tensor, *, training: bool) -> Tensor:
    """Patch by patch with loops over the formulas, (n, D) to (n,)."""
    x = adapted.numpy()
    blocks: Any = head.discriminator.blocks
    for linear, norm, _ in blocks:
        weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
        x = np.stack([weight @ row + bias for row in x])
        mean = x.mean(axis=0) if training else norm.running_mean.numpy()
        variance = x.var(axis=0) if training else norm.running_var.numpy()
        x = (x - mean) / np.sqrt(variance + norm.eps)
        x = x * norm.weight.detach().numpy() + norm.bias.detach().numpy()
        x = np.where(x > 0, x, 0.2 * x)
    scores = [float(head.discriminator.head.weight[0].detach().numpy() @ row) for row in x]
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("blocks", [1, 2])
def test_simplenet_is_its_formulas(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head = simplenet_head(blocks=blocks)
    x = torch.randn(4, 6, 8, dtype=torch.float64)
    noise = 0.1 * torch.randn(4, 6, 8, dtype=torch.float64)
    adapted = (x.flatten(0, 1) @ head.adaptor.weight.detach().T).view(4, 6, 8)
    head.train()
    monkeypatch.setattr(simplenet, "add_noise", lambda values, *_: values + noise)
    found = simplenet.objective(head, x, 0.0, torch.Generator())
    both = torch.cat([adapted, adapted + noise]).flatten(0, 1)
    scores = plain_discriminator(head, both, training=True).tolist()
    clean = [max(0.0, score + 0.5) for score in scores[:24]]
    noisy = [max(0.0, 0.5 - score) for score in scores[24:]]
    assert float(found.detach()) == pytest.approx(sum(clean) / 24 + sum(noisy) / 24, rel=1e-12)
    head.eval()
    expected = plain_discriminator(head, adapted.flatten(0, 1), training=False)
    torch.testing.assert_close(head(x).detach().flatten(), expected, rtol=1e-12, atol=1e-12)


def test_a_patch_of_simplenet_knows_nothing_of_the_others() -> None:
    """In evaluation mode: a batch of one gives what the batch gave."""
    head = simplenet_head().eval()
    x = torch.randn(4, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(head(x[2:3]), head(x)[2:3])
    torch.testing.assert_close(head(x.flip(1)), head(x).flip(1))


def plain_student(head: KDADHead, image: Tensor) -> Tensor:
    """One image (3, H, W) through the student, token by token: (N, D)."""
    student: Any = head.student
    weight, bias = student.patch_embed.weight.flatten(1), student.patch_embed.bias
    tokens = [student.class_token[0, 0]]
    for row in range(2):
        for column in range(3):
            patch = image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            tokens.append(weight @ patch.flatten() + bias)
    x = torch.stack(tokens) + student.positions
    for block in student.blocks:
        x = x + plain_attention(block.attention, plain_norm(block.norm_1, x))
        x = x + block.mlp(plain_norm(block.norm_2, x))
    return torch.as_tensor(x[1:])


def plain_norm(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
    return torch.as_tensor(centred / deviation * norm.weight + norm.bias)


def plain_attention(attention: Any, x: Tensor) -> Tensor:
    packed = x @ attention.in_proj.weight.T + attention.in_proj.bias
    query, key, value = packed.chunk(3, dim=-1)
    size = x.shape[1] // attention.heads
    mixed = []
    for first in range(0, x.shape[1], size):
        part = slice(first, first + size)
        logits = query[:, part] @ key[:, part].T / size**0.5
        shares = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
        mixed.append(shares @ value[:, part])
    joined = torch.cat(mixed, dim=-1)
    return torch.as_tensor(joined @ attention.out_proj.weight.T + attention.out_proj.bias)


@pytest.mark.parametrize("training", [False, True])
def test_kdad_is_its_formulas(training: bool) -> None:
    head = kdad_head().train(training)
    images = torch.randn(3, 3, 16, 24, dtype=torch.float64)
    teacher = torch.randn(3, 6, 8, dtype=torch.float64)
    predicted = torch.stack([plain_student(head, image) for image in images])
    torch.testing.assert_close(head.student(images), predicted, rtol=1e-10, atol=1e-10)
    expected = torch.zeros(3, 6, dtype=torch.float64)
    for image in range(3):
        for patch in range(6):
            one, other = predicted[image, patch], teacher[image, patch]
            difference = one / one.norm() - other / other.norm()
            expected[image, patch] = (difference**2).sum() / 8
    torch.testing.assert_close(head(teacher, images), expected, rtol=1e-10, atol=1e-12)
    loss = kdad.add_gradients(head, teacher, images, torch.float32)
    assert float(loss) == pytest.approx(float(expected.detach().mean()), rel=1e-6)


def test_gradients_of_simplenet_by_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    head = simplenet_head(blocks=2).train()
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    noise = torch.randn(2, 6, 8, dtype=torch.float64)
    monkeypatch.setattr(simplenet, "add_noise", lambda values, *_: values + noise)
    names = [name for name, _ in head.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        named = {f"head.{name}": value for name, value in given.items()}
        return torch.as_tensor(torch.func.functional_call(Loss(head, x), named, ()))

    values = [value.detach().clone().requires_grad_() for value in head.parameters()]
    assert torch.autograd.gradcheck(loss, values)


class Loss(torch.nn.Module):
    """The objective as a module, so that its weights can be given."""

    def __init__(self, head: SimpleNetHead, features: Tensor) -> None:
        super().__init__()
        self.head, self.features = head, features

    def forward(self) -> Tensor:
        return simplenet.objective(self.head, self.features, 1.0, torch.Generator())


def test_gradients_of_kdad_by_finite_differences() -> None:
    head = kdad_head(dim=4).train()
    images = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    teacher = torch.randn(2, 6, 4, dtype=torch.float64)
    values = {k: v.detach().clone().requires_grad_() for k, v in head.student.named_parameters()}

    def loss(*given: Tensor) -> Tensor:
        state = dict(zip(values, given, strict=True))
        student = torch.func.functional_call(head.student, state, (images,))
        return squared_difference(student, teacher).mean()

    assert torch.autograd.gradcheck(loss, list(values.values()))
    loss(*values.values()).backward()  # type: ignore[no-untyped-call]
    kdad.add_gradients(head, teacher, images, torch.float32)
    for name, parameter in head.student.named_parameters():
        torch.testing.assert_close(parameter.grad, values[name].grad, msg=name)


def test_parts_of_a_batch_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(5, 3, 16, 24, dtype=torch.float64)
    teacher = torch.randn(5, 6, 8, dtype=torch.float64)
    found = []
    for patches in (6 * 2, 6 * 100):
        monkeypatch.setattr(kdad, "PATCHES", patches)
        head = kdad_head().train()
        kdad.add_gradients(head, teacher, images, torch.float32)
        found.append([parameter.grad for parameter in head.student.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_separable_features_are_told_apart_by_simplenet() -> None:
    """Clean features in a plane, others beside it: every other one scores higher."""
    good = features_of(16, dim=8)
    good.values[..., 4:] = 0
    config = config_of("simplenet", noise_std=0.5, epochs=60, hidden=32, lr=5e-3)
    torch.manual_seed(0)
    head = SimpleNetHead(config, (2, 3), 8)
    simplenet.fit_simplenet(head, good, config, device=CPU)
    assert not head.training
    x = torch.from_numpy(features_of(64, seed=1).values).float()
    clean, other = x.clone(), x.clone()
    clean[..., 4:] = 0
    other[..., 4:] = 3 * other[..., 4:].sign()
    with torch.inference_mode():
        assert head(clean).max() < head(other).min()


def test_noise_in_units_of_the_adapted_features() -> None:
    features = features_of(9, patches=50)
    features.values[..., 0] *= 100
    torch.manual_seed(0)
    head = SimpleNetHead(config_of("simplenet"), (5, 10), 8)
    absolute = config_of("simplenet", noise_std=0.3)
    assert simplenet.noise_of(head, features, absolute, CPU) == 0.3
    relative = config_of("simplenet", noise_std=0.3, noise_units="features")
    found = simplenet.noise_of(head, features, relative, CPU)
    adapted = head.adaptor(torch.from_numpy(features.values).float()).detach()
    torch.testing.assert_close(found, 0.3 * adapted.flatten(0, 1).std(dim=0))


def test_a_noise_that_is_nothing_is_said(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    heard: list[str] = []
    config = config_of("simplenet", noise_std=1e-6, epochs=1, lr=1e-9)
    train_detector(
        parts, tmp_path / "run", config, weights=tiny_weights, cache=cache, log=heard.append
    )
    (line,) = heard
    assert "guessing gives 1.000" in line and 'noise_units = "features"' in line


def test_images_are_kept_while_they_fit(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted((parts / "train" / "good").glob("*.png"))[:4]
    read: list[Path] = []

    def watched(path: Path) -> NDArray[np.uint8]:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(images_module, "read_image", watched)
    images = Images(paths, (32, 48), budget=2 * 3 * 32 * 48)
    everything = images.batch(np.arange(4), CPU)
    assert everything.shape == (4, 32, 48, 3) and everything.dtype == torch.uint8
    assert len(images) == 4
    again = images.batch(np.array([3, 0]), CPU)
    assert torch.equal(again, everything[[3, 0]])
    assert read == [*paths, paths[3]]


def test_what_does_not_fit_the_student_is_refused() -> None:
    with pytest.raises(ConfigError, match="heads: expected a divisor"):
        KDADHead(config_of("kdad", heads=3), (4, 4), 8)
    with pytest.raises(ConfigError, match="a multiple of the 5 x 4 patches"):
        KDADHead(config_of("kdad"), (5, 4), 8)


def test_the_published_settings() -> None:
    net, student = PRESETS["simplenet"], PRESETS["kdad"]
    assert (net.backbone, net.layers) == ("wide_resnet50_2.tv_in1k", (2, 3))
    assert net.noise_std == pytest.approx(0.0165)
    assert (net.lr, net.lr_decay_factor, net.weight_decay, net.batch_size) == (2e-4, 0.4, 1e-5, 8)
    assert (net.image_size, net.hidden, net.top_k, net.epochs) == ((224, 224), 1024, 1, 160)
    assert (net.smoothing_sigma, net.smoothing_radius) == (4, 9)
    assert (student.hidden, student.heads, student.blocks, student.dropout) == (512, 8, 4, 0.2)
    assert (student.lr, student.epochs, student.batch_size, student.top_k) == (1e-3, 10, 16, 0)
    assert student.weight_decay == 0.01
    assert dataclasses.replace(student, method="generalad").image_size == (518, 518)
