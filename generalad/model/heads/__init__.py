"""Heads: from patch features to patch scores, one for each method; `build_head` makes them."""

from __future__ import annotations

from generalad.config import Config
from generalad.model.backbone import Backbone
from generalad.model.heads.gaussian import GaussianHead
from generalad.model.heads.generalad import GeneralADHead
from generalad.model.heads.head import Head
from generalad.model.heads.kdad import KDADHead
from generalad.model.heads.patchcore import PatchCoreHead
from generalad.model.heads.residual import ResidualHead
from generalad.model.heads.simplenet import SimpleNetHead

HEADS: dict[str, type[Head]] = {
    "generalad": GeneralADHead,
    "simplenet": SimpleNetHead,
    "kdad": KDADHead,
    "residual": ResidualHead,
    "gaussian": GaussianHead,
    "patchcore": PatchCoreHead,
}
"""By the method's name in the configuration."""


def build_head(config: Config, backbone: Backbone) -> Head:
    """The untrained head of a method on the features of a backbone; raises ConfigError."""
    return HEADS[config.method](config, backbone.grid, backbone.dim, backbone.widths)


__all__ = [
    "HEADS",
    "GaussianHead",
    "GeneralADHead",
    "Head",
    "KDADHead",
    "PatchCoreHead",
    "ResidualHead",
    "SimpleNetHead",
    "build_head",
]
