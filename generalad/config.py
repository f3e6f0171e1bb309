"""The training configuration: frozen, from a preset, a TOML file or both.

A TOML file holds the field names of `Config` at its top level, and optionally `preset = "..."` to
start from. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from generalad import records
from generalad.areas import Polygon
from generalad.errors import ConfigError, GadError, key_hint
from generalad.geometry.geometry import Geometry, Tiles, polygon_of

DISTORTIONS = ("random", "attn", "copy_out", "shuffle", "randshuffle")
METHODS = ("generalad", "simplenet", "kdad", "residual", "gaussian", "patchcore")
"""Heads over the backbone's features, see `generalad.model.heads`."""
EMBEDDED = "embedded"
"""Name of the backbone that is shipped with the package."""

QUICK_PRESET = "edge"
"""The preset that is named where another one would take hours."""

MOST_SIDE = 4096
"""Pixels of the network's input along each side."""

ENLARGED = 2
"""Times by which tiles are enlarged where no `image_size` is set: defects of 10 pixels are smaller
than a patch of 16, and were not found."""

PAPER_BACKBONES = frozenset(
    f"vit_{size}_patch14_dinov2{tag}"
    for size in ("small", "base", "large")
    for tag in ("", ".lvd142m")
)
"""Those of the paper's tables, for whose features its noise was chosen."""


def _check(condition: bool, key: str, expected: str, found: Any) -> None:
    if not condition:
        raise ConfigError(f"{key}: expected {expected}, found {found!r}")


@dataclass(frozen=True)
class Config:
    """Everything that determines a training run, apart from the data.

    Attributes:
        method: one of `METHODS`.
        backbone: a timm model name, or "embedded".
        layers: 1-based blocks (ViT) or levels (CNN) whose outputs are concatenated.
        image_size: (height, width) of the network's input in pixels.
        fit_images: give the input the ratio of the images' sides, where they have one in common,
            and their size, from the area of `image_size` to 2.25 times that. An `image_size` that
            is set later is taken as it is.
        pool_size: side of the neighbourhoods that features of a CNN are averaged over, odd; 1 for
            none. A ViT's are taken as they are.
        distortions: pseudo-anomalies besides noise on all patches: at most one of "random" and
            "attn" (noise on some patches), at most one of "copy_out", "shuffle", "randshuffle".
        noise_std: standard deviation of the feature noise, see `noise_units`.
        noise_units: of `noise_std`: "features", the standard deviation of each channel over the
            training images; "absolute", as in the paper; or "auto": absolute for the backbones of
            the paper's tables, else features. Whitened features vary by 1: there all is the same.
            For "simplenet" the features are the adapted ones.
        num_fake_patches: most patches that are overwritten or permuted at once; -1 for all.
        top_k: the image score is the mean of this many largest patch logits; 0 for all patches.
        smoothing_sigma: of the Gaussian over the map, in pixels of the network's input.
        smoothing_radius: where that Gaussian is cut, in pixels of the network's input.
        hidden: width of the discriminator's MLP, or of the student's.
        heads: attention heads of the discriminator or student.
        blocks: attention blocks of the discriminator or student; hidden layers of "simplenet". A
            student of "kdad" with 0 is an MLP that sees each patch by itself.
        dropout: in the discriminator: on the attention, inside the MLP, and behind both.
        whitened: show the discriminator deviations from the mean training feature of each place, in
            units of the covariance there (`generalad.model.whitening`), with positions that start
            equal; the paper shows it the features themselves. Noise is added after it.
        epochs: length of the fixed schedule.
        epoch_images: images that are drawn at random for each epoch; 0 for all of them.
        batch_size: images a step.
        lr: AdamW's learning rate; it falls on a cosine to `lr` x `lr_decay_factor`.
        lr_decay_factor: see `lr`; 1 for a constant rate.
        weight_decay: of AdamW.
        seed: of splits, order, noise and initial values.
        shots: train on this many images only, from an offset equal to the seed; 0 for all.
        calibration_fraction: part of the groups of good images held out to set the thresholds.
        group: which images belong to one photograph, lot or part and stay on one side: a regular
            expression, whose first group in the path relative to the dataset (or whole match) names
            it; "folder"; "image" for each image alone; empty for the column `group` of a table, and
            without one for near-copies together.
        false_alarm_rate: target for the thresholds.
        memory_size: patches that a memory of good ones holds.
        members: discriminators of the method "residual" that are averaged.
        drawn: images with drawn defects that they are trained on.
        crop: polygon of the frame that the network sees, as corners (x, y) in shares of the frame;
            empty for all of it. Its bounding box is what is resized to `image_size`.
        ignore: polygons that neither teach nor count.
        align: find the part in each frame by a template that good images teach, and turn and shift
            it into place.
        turn: degrees by which parts are turned at most, either way of how most of them lie; 0 for
            shifts alone. With `align`.
        tiles: side in pixels of the tiles that frames are cut into at their own scale; 0 to resize
            frames as a whole. `image_size` is that, or a multiple to which each tile is enlarged;
            `ENLARGED` times where only the tiles are set.
        tile_overlap: of neighbouring tiles, in pixels.
    """

    method: str = "generalad"
    backbone: str = "vit_large_patch14_dinov2.lvd142m"
    layers: tuple[int, ...] = (24,)
    image_size: tuple[int, int] = (518, 518)
    fit_images: bool = False
    pool_size: int = 3
    distortions: tuple[str, ...] = ("random",)
    noise_std: float = 0.25
    noise_units: Literal["auto", "features", "absolute"] = "auto"
    num_fake_patches: int = -1
    top_k: int = 10
    smoothing_sigma: float = 16.0
    smoothing_radius: int = 18
    hidden: int = 2048
    heads: int = 4
    blocks: int = 1
    dropout: float = 0.1
    whitened: bool = False
    epochs: int = 160
    epoch_images: int = 0
    batch_size: int = 16
    lr: float = 5e-4
    lr_decay_factor: float = 0.2
    weight_decay: float = 1e-5
    seed: int = 0
    shots: int = 0
    calibration_fraction: float = 0.2
    group: str = ""
    false_alarm_rate: float = 0.01
    memory_size: int = 1000
    members: int = 2
    drawn: int = 960
    crop: Polygon = ()
    ignore: tuple[Polygon, ...] = ()
    align: bool = False
    turn: float = 180.0
    tiles: int = 0
    tile_overlap: int = 64

    def __post_init__(self) -> None:
        try:
            self.geometry  # noqa: B018  # building it checks it
        except ValueError as error:
            raise ConfigError(str(error)) from error
        _check(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method)
        _check(
            bool(self.layers) and min(self.layers) >= 1,
            "layers",
            "block numbers from 1",
            self.layers,
        )
        _check(len(set(self.layers)) == len(self.layers), "layers", "different blocks", self.layers)
        _check(
            len(self.image_size) == 2
            and 16 <= min(self.image_size) <= max(self.image_size) <= MOST_SIDE,
            "image_size",
            f"height and width between 16 and {MOST_SIDE}",
            self.image_size,
        )
        self._check_distortions()
        self._check_tiles()
        _check(0 <= self.turn <= 180, "turn", "degrees from 0 to 180", self.turn)
        _check(self.align or self.turn == 180, "turn", "align with it", self.turn)
        for name in ("smoothing_radius", "top_k", "shots", "seed", "epoch_images"):
            _check(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in (
            "hidden",
            "heads",
            "epochs",
            "batch_size",
            "memory_size",
            "members",
            "drawn",
        ):
            _check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        least = 0 if self.method == "kdad" else 1
        _check(self.blocks >= least, "blocks", f"at least {least}", self.blocks)
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float):
                _check(math.isfinite(value), item.name, "a finite number", value)
        for name in ("noise_std", "lr"):
            _check(getattr(self, name) > 0, name, "more than 0", getattr(self, name))
        for name in ("smoothing_sigma", "weight_decay"):
            _check(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        _check(0 <= self.dropout < 1, "dropout", "from 0 to below 1", self.dropout)
        _check(
            0 <= self.lr_decay_factor <= 1, "lr_decay_factor", "from 0 to 1", self.lr_decay_factor
        )
        _check(
            self.pool_size >= 1 and self.pool_size % 2 == 1,
            "pool_size",
            "an odd number from 1",
            self.pool_size,
        )
        for name in ("calibration_fraction", "false_alarm_rate"):
            _check(0 < getattr(self, name) < 1, name, "between 0 and 1", getattr(self, name))
        _check(
            self.num_fake_patches == -1 or self.num_fake_patches >= 1,
            "num_fake_patches",
            "-1 or at least 1",
            self.num_fake_patches,
        )

        try:
            re.compile(self.group)
        except re.error as error:
            expected = f'"folder", "image" or a regular expression ({error})'
            raise ConfigError(f"group: expected {expected}, found {self.group!r}") from error

    @property
    def geometry(self) -> Geometry | None:
        """What of a frame is judged, without a template; None for all of it."""
        found = Geometry(self.crop, self.ignore)
        return None if found == Geometry() else found

    @property
    def keeps_levels(self) -> bool:
        """Whether the head takes three levels of a CNN apart (`generalad.model.levels`)."""
        return self.method in ("residual", "gaussian", "patchcore") and len(self.layers) == 3

    @property
    def learns_from_views(self) -> bool:
        """Whether the head learns from views of good images and its thresholds look at them."""
        return self.method == "residual"

    @property
    def learns_quickly(self) -> bool:
        """Whether a head can be taught several times: `generalad.training.calibration_folds`."""
        return self.method in ("residual", "gaussian", "patchcore")

    @property
    def has_epochs(self) -> bool:
        """Whether the method learns through `epochs`; the others take seconds."""
        return self.method in ("generalad", "simplenet", "kdad")

    @property
    def noise_follows_features(self) -> bool:
        """Whether the noise is to be multiplied by the spread of the features."""
        if self.noise_units == "auto":
            return not self.whitened and self.backbone not in PAPER_BACKBONES
        return not self.whitened and self.noise_units == "features"

    @property
    def tile_scale(self) -> int:
        """Times by which tiles are enlarged for the network."""
        return self.image_size[0] // self.tiles

    def _check_tiles(self) -> None:
        if not self.tiles:
            return
        _check(
            self.image_size[0] == self.image_size[1] and self.image_size[0] % self.tiles == 0,
            "image_size",
            f"that of a tile, {self.tiles}, or a multiple of it",
            self.image_size,
        )
        try:
            Tiles(self.tiles, self.tile_overlap, (1, 1), self.tile_scale)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        _check(
            self.learns_quickly,
            "tiles",
            "the method residual, gaussian or patchcore with them",
            self.method,
        )

    def _check_distortions(self) -> None:
        chosen = self.distortions
        for name in chosen:
            _check(name in DISTORTIONS, "distortions", f"some of {', '.join(DISTORTIONS)}", name)
        _check(len(set(chosen)) == len(chosen), "distortions", "each once", chosen)
        noise, moves = set(chosen) & set(DISTORTIONS[:2]), set(chosen) & set(DISTORTIONS[2:])
        _check(len(noise) <= 1, "distortions", "one of random and attn", chosen)
        _check(len(moves) <= 1, "distortions", "one of copy_out, shuffle and randshuffle", chosen)

    def replaced(self, changes: dict[str, Any]) -> Config:
        """A copy with `changes`; unknown keys and wrong types are errors.

        Lists become tuples. Where several values stand, one alone may; of `image_size` it is both.
        """
        values = dataclasses.asdict(self)
        for key, value in changes.items():
            if key not in values:
                raise ConfigError(f"unknown configuration key {key!r}", remedy=_hint(key, values))
            if key in ("crop", "ignore"):
                value = _areas(key, value)
            elif isinstance(values[key], tuple) and not isinstance(value, list | tuple):
                value = [value]
            values[key] = value * 2 if key == "image_size" and len(value) == 1 else value
        if changes.get("tiles") and "image_size" not in changes:
            side = changes["tiles"]
            enlarged = isinstance(side, int) and side <= MOST_SIDE // ENLARGED
            values["image_size"] = [side * ENLARGED if enlarged else side] * 2
            values["fit_images"] = False
        if "image_size" in changes and "fit_images" not in changes:
            values["fit_images"] = False
        try:
            return records.convert(values, type(self))
        except records.RecordError as error:
            raise ConfigError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in JSON; geometry only where there is some."""
        return {
            key: _plain(value)
            for key, value in dataclasses.asdict(self).items()
            if key not in GEOMETRY or value != getattr(Config, key)
        }


GEOMETRY = ("crop", "ignore", "align", "turn", "tiles", "tile_overlap")
"""Settings that are left out of records where they say nothing, as in those of older versions."""


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _areas(key: str, value: Any) -> Any:
    """Corners of what a person may write in another way."""
    try:
        if key == "crop":
            return () if value in ("", (), []) else polygon_of(value, key)
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list | tuple):
            raise ConfigError(f"ignore: expected a list of areas, found {value!r}")
        return tuple(polygon_of(one, f"ignore polygon {n}") for n, one in enumerate(given, 1))
    except ConfigError:
        raise
    except GadError as error:
        raise ConfigError(error.message, remedy=error.remedy) from error


_OTHER_NAMES = {
    "lr": "learning_rate learningrate initial_lr base_lr step_size",
    "batch_size": "batch batchsize bs minibatch train_batch_size",
    "epochs": "epoch num_epochs n_epochs max_epochs iterations steps",
    "image_size": "size resolution input_size img_size imgsz height width resize",
    "backbone": "model encoder network arch architecture",
    "seed": "random_seed random_state",
    "false_alarm_rate": "fpr far false_positive_rate target alpha",
    "calibration_fraction": "val_fraction validation_fraction val_split validation_split",
    "shots": "k_shot few_shot num_images",
    "group": "groups group_by",
    "memory_size": "memory bank_size coreset",
    "top_k": "topk k",
    "smoothing_sigma": "sigma blur",
    "crop": "roi region_of_interest center_crop bbox",
    "ignore": "mask exclude ignored ignore_mask",
}
"""What other programs call a setting, where its name is too far from ours to be guessed."""


def _hint(key: str, known: dict[str, Any]) -> str:
    plain = key.strip().lower().replace("-", "_")
    for ours, others in _OTHER_NAMES.items():
        if plain in others.split():
            return f"did you mean {ours}?"
    return key_hint(key, known)


PRESETS: dict[str, Config] = {
    # Weights come with the package index, a processor is enough: the one to start with.
    "edge": Config(
        method="residual",
        backbone="tf_efficientnet_lite0",
        layers=(2, 3, 4),
        image_size=(256, 256),
        fit_images=True,
        top_k=1,
        smoothing_sigma=4.0,
        smoothing_radius=8,
    ),
    # The three columns of the paper's tables.
    "small": Config(backbone="vit_small_patch14_dinov2.lvd142m", layers=(12,)),
    "base": Config(backbone="vit_base_patch14_dinov2.lvd142m", layers=(12,)),
    "large": Config(),
    # The paper's two baselines, as its authors ran them.
    "simplenet": Config(
        method="simplenet",
        backbone="wide_resnet50_2.tv_in1k",
        layers=(2, 3),
        image_size=(224, 224),
        distortions=(),
        noise_std=1.1 * 0.015,
        noise_units="absolute",
        top_k=1,
        smoothing_sigma=4.0,
        smoothing_radius=9,
        hidden=1024,
        dropout=0.0,
        batch_size=8,
        lr=2e-4,
        lr_decay_factor=0.4,
    ),
    "kdad": Config(
        method="kdad",
        backbone="vit_base_patch14_dinov2.lvd142m",
        layers=(12,),
        distortions=(),
        top_k=0,
        hidden=512,
        heads=8,
        blocks=4,
        dropout=0.2,
        epochs=10,
        lr=1e-3,
        weight_decay=0.01,
    ),
    # For demos, tests and trials without a download; how the values were found is said in
    # docs/embedded-backbone.md. Whitened features have unit variance, noise is set against that.
    EMBEDDED: Config(
        backbone=EMBEDDED,
        layers=(4,),
        image_size=(256, 256),
        distortions=("random", "randshuffle"),
        noise_std=1.5,
        top_k=1,
        smoothing_sigma=8.0,
        smoothing_radius=16,
        hidden=512,
        dropout=0.0,
        whitened=True,
        epochs=16,
        batch_size=2,
        lr=2e-3,
    ),
}


PRESET_USES = {
    "edge": "real parts, on any processor in minutes, without a download",
    "small": "the paper's smallest backbone; a GPU, or hours",
    "base": "the paper's middle backbone; a GPU",
    "large": "the paper's best figures; a large GPU",
    "simplenet": "the paper's first baseline; a GPU, or hours",
    "kdad": "the paper's second baseline; a GPU, or hours",
    EMBEDDED: "demos and trials; real parts need edge or one of the paper's",
}
"""What each preset is good for, in a few words."""


_OF_METHOD = (
    *("distortions", "noise_std", "noise_units", "top_k", "hidden", "heads", "blocks", "dropout"),
    *("whitened", "epochs", "batch_size", "lr", "lr_decay_factor", "weight_decay"),
)
"""What a paper says of its method, whatever the features are."""

_BASELINES = ("simplenet", "kdad")


def preset_of(method: str | None) -> str:
    """The preset where none is named: the method's own where it has one, else the quick one."""
    return method if method in _BASELINES else QUICK_PRESET


def load_config(
    preset: str | None = "large", *, method: str | None = None, file: Path | None = None
) -> Config:
    """Build a configuration from a preset and, on top of it, a TOML file.

    Args:
        preset: one of `PRESETS`; a `preset` key in the file wins over it. None for `preset_of` the
            method.
        method: wins over that of file and preset. Where it, or the preset's, is a baseline of the
            paper, the schedule is that method's own; features and maps stay the preset's. The noise
            of "simplenet" is then in units of these features.
        file: TOML with field names of `Config`.

    Raises:
        ConfigError: unknown preset, key or value; a file that is missing or no TOML.
    """
    changes: dict[str, Any] = {}
    if file is not None:
        changes = records.read_toml(file)
    named = changes.pop("method", None)
    method = named if method is None else method
    preset = changes.pop("preset", preset)
    if preset is None:
        preset = preset_of(method)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(
            f"unknown preset {preset!r}", remedy=f"choose one of {', '.join(PRESETS)}"
        )
    config = PRESETS[preset]
    if method is not None and method != config.method:
        if method in _BASELINES or config.method in _BASELINES:
            source = PRESETS.get(method, Config())
            config = config.replaced({name: getattr(source, name) for name in _OF_METHOD})
        if method == "simplenet":  # the published noise is for the published features
            config = config.replaced({"noise_std": Config().noise_std, "noise_units": "features"})
        config = config.replaced({"method": method})
    return config.replaced(changes)
