"""An epoch of the authors' own code, for `training.py`.

Their classes, steps, losses, optimisers and readers of images are run as they are. The loop around
them stands in for Lightning's and does less: no progress, no log, no checkpoint. Weights are drawn.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import shared  # noqa: F401  finds tests/helpers
import torch
from authors import authors_code
from torch.utils.data import DataLoader

from generalad.config import Config

Ways = dict[str, Callable[[], object]]


def authors_epoch(repository: Path, config: Config, root: Path) -> Ways:
    """Ways to run the steps of an epoch and, of GeneralAD's authors, the pass over test images.

    Args:
        repository: a checkout of theirs.
        config: preset, sizes and batch.
        root: a class folder in MVTec AD's layout, in a folder of their name for it.
    """
    if (repository / "src").is_dir():
        return _of_generalad(repository, config, root)
    return _of_simplenet(repository, config, root)


def _of_generalad(repository: Path, config: Config, root: Path) -> Ways:
    module = {"generalad": "general_ad", "simplenet": "simplenet", "kdad": "kdad_vit"}
    code = authors_code(repository, module[config.method])
    real = code.timm.create_model

    def create(name: str, **options: Any) -> Any:
        size = {"img_size": config.image_size} if name.startswith("vit") else {}
        return real(name, **{**options, **size, "pretrained": False})

    with mock.patch.object(code.timm, "create_model", create):
        model = _MODELS[config.method](code, config)
    if config.method == "generalad":
        # Their function for the last block's attention; today's timm hands it more than the tokens.
        attention = model.feature_extractor.pretrained_model.blocks[config.layers[-1] - 1].attn
        inner = attention.forward
        attention.forward = lambda x, **_options: inner(x)
    train, test = authors_code(repository, "load_data").prepare_loader(
        config.image_size[0], str(root.parents[1]), "mvtec-ad", root.name, config.batch_size,
        config.batch_size, 0, 0, -1,
    )  # fmt: skip
    return {
        "theirs, steps": functools.partial(_steps, model, train),
        "theirs, test images": functools.partial(_test_images, model, test),
    }


def _generalad(code: Any, config: Config) -> Any:
    return code.General_AD(
        lr=config.lr, lr_decay_factor=config.lr_decay_factor, hf_path=config.backbone,
        layers_to_extract_from=list(config.layers), hidden_dim=config.hidden,
        wd=config.weight_decay, epochs=160, noise_std=config.noise_std, dsc_layers=config.blocks,
        dsc_heads=config.heads, dsc_dropout=config.dropout, pool_size=3,
        image_size=config.image_size[0], num_fake_patches=-1, fake_feature_type="random",
        top_k=config.top_k, log_pixel_metrics=0, smoothing_sigma=16, smoothing_radius=18,
    )  # fmt: skip


def _simplenet(code: Any, config: Config) -> Any:
    return code.SimpleNet(
        lr=config.lr, lr_adaptor=1e-4, hf_path=config.backbone,
        layers_to_extract_from=list(config.layers), hidden_dim=config.hidden,
        wd=config.weight_decay, epochs=160, noise_std=0.015, dsc_layers=config.blocks + 1,
        pool_size=3, image_size=config.image_size[0], log_pixel_metrics=0, smoothing_sigma=4,
        smoothing_radius=9,
    )  # fmt: skip


def _kdad(code: Any, config: Config) -> Any:
    return code.AD_ViT(
        embed_dim=768, hidden_dim=config.hidden, num_heads=config.heads, num_layers=config.blocks,
        patch_size=14, num_channels=3, num_patches=(config.image_size[0] // 14) ** 2,
        dropout=config.dropout, lr=config.lr, hf_path=config.backbone, milestones=[10, 20],
        gamma=0.5, model_type="ViT",
    )  # fmt: skip


_MODELS = {"generalad": _generalad, "simplenet": _simplenet, "kdad": _kdad}


def _steps(model: Any, loader: DataLoader[Any]) -> None:
    if not hasattr(model, "optimisers"):
        made = model.configure_optimizers()
        model.optimisers = [made["optimizer"]] if isinstance(made, dict) else made[0]
        model.optimizers = lambda: model.optimisers
    model.train()
    for number, batch in enumerate(loader):
        if getattr(model, "automatic_optimization", True):
            (optimiser,) = model.optimisers
            optimiser.zero_grad()
            model.training_step(batch, number).backward()
            optimiser.step()
        else:
            model.training_step(batch, number)


@torch.no_grad()
def _test_images(model: Any, loader: DataLoader[Any]) -> None:
    model.eval()
    for number, batch in enumerate(loader):
        model.validation_step(batch, number)
    model.on_validation_epoch_end()


def _of_simplenet(repository: Path, config: Config, root: Path) -> Ways:
    """SimpleNet's own code: one of its inner epochs, at our input size, else as `run.sh` says."""
    unused = {"torch.utils.tensorboard": "SummaryWriter", "utils": "plot_segmentation_images"}
    stand_ins = {name: types.ModuleType(name) for name in (*unused, "metrics")}
    for name, attribute in unused.items():
        vars(stand_ins[name])[attribute] = None
    sys.path.insert(0, str(repository))
    with mock.patch.dict(sys.modules, stand_ins):
        code = importlib.import_module("simplenet")
        readers = importlib.import_module("datasets.mvtec")
    from torchvision.models import wide_resnet50_2

    device, size = torch.device("cpu"), config.image_size[0]
    model = code.SimpleNet(device)
    model.load(
        backbone=wide_resnet50_2(), layers_to_extract_from=["layer2", "layer3"], device=device,
        input_shape=(3, size, size), pretrain_embed_dimension=1536, target_embed_dimension=1536,
        patchsize=3, meta_epochs=40, embedding_size=256, gan_epochs=1, noise_std=0.015,
        dsc_hidden=1024, dsc_layers=2, dsc_margin=0.5, pre_proj=1,
    )  # fmt: skip
    model.logger = mock.MagicMock()
    images = readers.MVTecDataset(
        str(root.parent), classname=root.name, resize=round(size * 329 / 288), imagesize=size
    )
    loader: DataLoader[Any] = DataLoader(images, batch_size=config.batch_size, shuffle=True)
    return {"SimpleNet's own, steps": functools.partial(model._train_discriminator, loader)}
