"""Backbones: every family gives what timm itself computes, and nothing more is run than needed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_helpers import body

from generalad.errors import ConfigError
from generalad.model.backbone import CNNBackbone, LevelsBackbone, ViTBackbone, normalise, wrap
from generalad.model.levels import unpack
from generalad.model.weights import build_body

PLAIN = "test_vit"
FAMILIES = {
    "plain": PLAIN,
    "registers": "vit_small_patch14_reg4_dinov2",
    "dinov3": "vit_small_patch16_dinov3",
    "eva02": "eva02_tiny_patch14_224",
}


def member(module: Any, name: str) -> Any:
    """timm's models carry no types."""
    return getattr(module, name)


def vit(family: str, size: tuple[int, int]) -> nn.Module:
    return body(FAMILIES[family], depth=3, img_size=size, dynamic_img_size=False, num_classes=0)


def random_images(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(3))


def by_hand(model: Any, images: Tensor, layers: tuple[int, ...]) -> Tensor:
    """Blocks one after the other, final norm, prefix tokens dropped."""
    tokens = model.patch_embed(images)
    embedded = model._pos_embed(tokens)
    extra: dict[str, Any] = {}
    if isinstance(embedded, tuple):  # Eva models keep rotary positions apart
        tokens, extra["rope"] = embedded
    else:
        tokens = embedded
    tokens = model.norm_pre(tokens) if hasattr(model, "norm_pre") else tokens
    norm = model.norm  # none in EVA-02
    found = []
    for number, block in enumerate(model.blocks, start=1):
        tokens = block(tokens, **extra)
        if number in layers:
            found.append(norm(tokens)[:, model.num_prefix_tokens :])
    return torch.cat(found, dim=-1)


@pytest.mark.parametrize("layers", [(2,), (1, 3)])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_timm(family: str, layers: tuple[int, ...]) -> None:
    patch = 14 if family in ("registers", "eva02") else 16
    size = (4 * patch, 6 * patch)
    model = vit(family, size)
    images = random_images(size)
    with torch.inference_mode():
        expected = by_hand(model, images, layers)
        own = model.forward_intermediates(  # type: ignore[operator]
            images,
            indices=[n - 1 for n in layers],
            norm=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        backbone = wrap(copy.deepcopy(model), layers, size)
        found = backbone(images)
    assert backbone.grid == (4, 6)
    assert found.shape == (2, 24, backbone.dim)
    assert backbone.dim == member(model, "embed_dim") * len(layers)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, torch.cat(own, dim=-1), rtol=1e-4, atol=1e-4)
    assert isinstance(backbone, ViTBackbone)
    assert len(member(backbone.body, "blocks")) == max(layers), "later blocks must be gone"
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone.training


def test_the_order_of_layers_does_not_matter() -> None:
    model, images = vit("plain", (32, 32)), random_images((32, 32))
    first, second = (wrap(copy.deepcopy(model), order, (32, 32)) for order in ((1, 3), (3, 1)))
    assert torch.equal(first(images), second(images))


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_of_the_class_token(family: str) -> None:
    patch = 14 if family in ("registers", "eva02") else 16
    size = (3 * patch, 4 * patch)
    backbone = wrap(vit(family, size), (2,), size)
    assert isinstance(backbone, ViTBackbone)
    attention = member(backbone.body, "blocks")[-1].attn
    before, images = attention.fused_attn, random_images(size)
    rows: list[Tensor] = []
    hook = attention.attn_drop.register_forward_hook(lambda _m, _i, out: rows.append(out))
    with torch.inference_mode():
        features, found = backbone.features_and_attention(images)
        hook.remove()
        torch.testing.assert_close(features, backbone(images), rtol=1e-4, atol=1e-4)
    assert attention.fused_attn == before
    assert not attention.attn_drop._forward_hooks
    heads = attention.num_heads
    prefix = member(backbone.body, "num_prefix_tokens")
    assert found.shape == (2, heads, 12)
    assert rows[0].shape == (2, heads, 12 + prefix, 12 + prefix)
    torch.testing.assert_close(rows[0].sum(-1), torch.ones(2, heads, 12 + prefix))
    assert torch.equal(found, rows[0][:, :, 0, prefix:])
    assert float(found.min()) >= 0


def test_attention_equals_a_computation_from_queries_and_keys() -> None:
    size = (48, 64)
    model: Any = vit("plain", size)
    images = random_images(size)
    backbone = wrap(copy.deepcopy(model), (2,), size)
    with torch.inference_mode():
        found = backbone.features_and_attention(images)[1]
        tokens = model.blocks[0](model._pos_embed(model.patch_embed(images)))
        block = model.blocks[1]
        packed = block.attn.qkv(block.norm1(tokens))
        query, key, _ = packed.chunk(3, dim=-1)
        heads, width = block.attn.num_heads, block.attn.head_dim
        query, key = (t.unflatten(-1, (heads, width)).transpose(1, 2) for t in (query, key))
        expected = (query @ key.transpose(-1, -2) / width**0.5).softmax(dim=-1)
    torch.testing.assert_close(found, expected[:, :, 0, 1:], rtol=1e-4, atol=1e-6)


def test_a_vit_without_class_token_has_no_attention_to_offer() -> None:
    model = body(PLAIN, img_size=(32, 32), class_token=False, global_pool="avg", num_classes=0)
    backbone = wrap(model, (1,), (32, 32))
    assert not backbone.has_attention
    assert backbone(random_images((32, 32))).shape == (2, 4, 64)
    with pytest.raises(ConfigError, match="class token"):
        backbone.features_and_attention(random_images((32, 32)))


def test_the_final_norm_of_a_mean_pooling_model_is_used() -> None:
    model: Any = body(PLAIN, img_size=(32, 32), global_pool="avg", num_classes=0)
    assert isinstance(model.norm, nn.Identity)
    images = random_images((32, 32))
    with torch.inference_mode():
        tokens = model.blocks[0](model._pos_embed(model.patch_embed(images)))
        expected = model.fc_norm(tokens)[:, 1:]
        found = wrap(copy.deepcopy(model), (1,), (32, 32))(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_only_evas_that_pool_by_the_mean_go_without_the_final_norm() -> None:
    for name, expected in {
        "eva02_tiny_patch14_224": nn.Identity,
        "eva02_base_patch16_clip_224": nn.LayerNorm,
        "vit_small_patch16_dinov3": nn.LayerNorm,
    }.items():
        with torch.device("meta"):
            model = build_body(name, (224, 224))
        found = wrap(model, (1,), (224, 224))
        assert isinstance(found, ViTBackbone)
        assert isinstance(member(found.body, "norm"), expected), name


@pytest.mark.parametrize("levels", [(1, 2), (2, 3), (3,)])
@pytest.mark.parametrize(("size", "pool"), [((64, 96), 3), ((70, 90), 3), ((64, 96), 5)])
def test_levels_of_a_cnn(levels: tuple[int, ...], size: tuple[int, int], pool: int) -> None:
    model: Any = body("resnet18", num_classes=0)
    images = random_images(size)
    with torch.inference_mode():
        x = model.maxpool(model.act1(model.bn1(model.conv1(images))))
        maps = []
        for number, stage in enumerate((model.layer1, model.layer2, model.layer3), start=1):
            x = stage(x)
            if number in levels:
                maps.append(x)
        grid = maps[0].shape[-2:]
        wide = [F.interpolate(m, grid, mode="bilinear", align_corners=False) for m in maps[1:]]
        both = F.avg_pool2d(torch.cat([maps[0], *wide], dim=1), pool, 1, pool // 2)
        expected = both.permute(0, 2, 3, 1).flatten(1, 2)
        backbone = wrap(copy.deepcopy(model), levels, size, pool_size=pool)
        found = backbone(images)
    assert isinstance(backbone, CNNBackbone)
    assert backbone.grid == tuple(grid)
    assert found.shape == (2, grid[0] * grid[1], backbone.dim)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not list(member(backbone.body, "layer4").parameters()), "later levels must be gone"
    with pytest.raises(ConfigError, match="class token"):
        backbone.features_and_attention(images)


@pytest.mark.parametrize(
    ("name", "folded"),
    [("tf_efficientnet_lite0", True), ("resnet18", True), ("resnetv2_18", False)],
)
def test_a_cnn_made_quick_computes_the_same(name: str, folded: bool) -> None:
    """Also one that normalises before its convolutions, whose norms have to stay."""
    model = body(name, num_classes=0)
    random = torch.Generator().manual_seed(0)
    for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
        for values, low, high in ((norm.running_var, 0.5, 2), (norm.running_mean, -0.5, 0.5)):
            assert values is not None
            values.uniform_(low, high, generator=random)
        with torch.no_grad():
            norm.weight.uniform_(0.5, 1.5, generator=random)
            norm.bias.uniform_(-0.5, 0.5, generator=random)
    images = random_images((64, 64))
    with torch.inference_mode():
        expected = model.forward_intermediates(  # type: ignore[operator]
            images, indices=[2], norm=False, intermediates_only=True
        )[0]
        backbone = wrap(copy.deepcopy(model), (2,), (64, 64), pool_size=1)
        found = backbone(images).transpose(1, 2).unflatten(2, backbone.grid)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    assert folded != any(isinstance(part, nn.BatchNorm2d) for part in backbone.modules())


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("tf_efficientnet_lite0", (2, 4, 5)),
        ("mobilenetv2_050", (2, 4, 5)),
        ("tf_efficientnetv2_b0", (2, 4, 5)),  # its last stage halves the size, and so stays
    ],
)
def test_the_last_of_three_levels_ends_before_a_stage_that_only_widens(
    name: str, stages: tuple[int, ...]
) -> None:
    model: Any = body(name, num_classes=0)
    images = random_images((64, 96))
    expected = []
    with torch.inference_mode():
        backbone = wrap(copy.deepcopy(model), (2, 3, 4), (64, 96), packed=True)
        assert isinstance(backbone, LevelsBackbone)
        found = unpack(backbone(images), backbone.widths, backbone.grid)
        seen = model.bn1(model.conv_stem(images))
        for number, stage in enumerate(model.blocks):
            seen = stage(seen)
            if number in stages:
                expected.append(seen)
    for ours, own in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-3, atol=1e-4 * float(own.std()))


@pytest.mark.parametrize(("size", "near"), [((60, 64), "height 60"), ((64, 70), "width 70")])
def test_an_image_size_that_is_no_multiple_of_the_patch(size: tuple[int, int], near: str) -> None:
    with pytest.raises(ConfigError, match=f"{near} is not a multiple of the patch size 16") as e:
        wrap(build_body(PLAIN, size), (1,), size)
    assert e.value.remedy == "use 64"


def test_layers_that_a_model_lacks() -> None:
    with pytest.raises(ConfigError, match="up to 6, found 7"):
        wrap(build_body(PLAIN, (32, 32)), (2, 7), (32, 32))
    with pytest.raises(ConfigError, match="up to 4, found 5"):
        wrap(build_body("resnet18", (32, 32)), (5,), (32, 32))


def test_a_model_without_intermediate_features() -> None:
    with pytest.raises(ConfigError, match="no intermediate features"):
        wrap(nn.Linear(2, 2), (1,), (32, 32))


def test_an_unknown_model_names_similar_ones() -> None:
    with pytest.raises(ConfigError, match="no model 'vit_tiny_patch16_22'") as caught:
        build_body("vit_tiny_patch16_22", (32, 32))
    assert "vit_tiny_patch16_224" in caught.value.remedy


def test_normalisation_is_rgb_over_255() -> None:
    image = torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8)
    mean, std = (0.5, 0.25, 0.1), (0.5, 0.2, 0.4)
    found = normalise(image, mean, std)
    assert found.shape == (1, 3, 1, 1)
    expected = [(v - m) / s for v, m, s in zip((1.0, 0.0, 0.2), mean, std, strict=True)]
    torch.testing.assert_close(found.flatten(), torch.tensor(expected))


@pytest.mark.parametrize(
    ("name", "size", "mean"),
    [
        ("vit_small_patch14_dinov2", 56, 0.485),
        ("vit_tiny_patch16_224", 64, 0.5),
        ("vit_small_patch16_224.dino", 64, 0.485),
        ("eva02_tiny_patch14_224", 56, 0.48145466),
        ("resnet18", 64, 0.485),
        ("tf_efficientnet_lite0", 64, 0.5),
    ],
)
def test_mean_and_std_are_those_of_the_published_weights(name: str, size: int, mean: float) -> None:
    backbone = wrap(build_body(name, (size, size)), (1,), (size, size))
    published = member(backbone.body, "pretrained_cfg")
    assert backbone.mean[0] == mean
    assert backbone.mean == tuple(published["mean"])
    assert backbone.std == tuple(published["std"])
