"""Random categories and their images.

A category is a fixed random recipe: a textured ground, perhaps an object with another texture,
perhaps a layout of shapes, a pose tolerance, a lamp and a camera. `draw_episode` gives a few good
images of one category and a few disturbed ones with exact masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.embedded_backbone.disturbances import chip, disturb
from tools.embedded_backbone.field import Float, Pose, Texture, cover, noise
from tools.embedded_backbone.layout import Element, Layout
from tools.embedded_backbone.textures import FAMILIES, HELD_OUT

Rng = np.random.Generator
VISIBLE = 0.022  # smallest change of a pixel (0...1, any channel) that counts as disturbed
_TONES = 1024


@dataclass(frozen=True)
class Surface:
    """One or two textures and the colours they are painted with."""

    first: Texture
    second: Texture | None
    share: float
    ramp: Float
    relief: float
    lamp: float

    @classmethod
    def draw_one(cls, rng: Rng, families: list[str]) -> Surface:
        """A random surface of these texture families."""

        def texture() -> Texture:
            return FAMILIES[families[int(rng.integers(len(families)))]](rng)

        count = int(rng.integers(2, 5))
        stops = rng.uniform(0, 1, (1, 3)) + rng.normal(0, rng.uniform(0.08, 0.45), (count, 3))
        if rng.random() < 0.4:  # nearly grey
            stops = stops.mean(1, keepdims=True) + rng.normal(0, 0.02, (1, 3))
        stops = np.clip(stops, 0.03, 0.97)
        tones, places = np.linspace(0, 1, _TONES), np.linspace(0, 1, count)
        ramp = np.stack([np.interp(tones, places, stops[:, k]) for k in range(3)], axis=1)
        return cls(
            first=texture(),
            second=texture() if rng.random() < 0.4 else None,
            share=float(rng.uniform(0.4, 0.9)),
            ramp=ramp.astype(np.float32),
            relief=float(rng.choice([0.0, 0.0, rng.uniform(0.3, 1.5)])),
            lamp=float(rng.uniform(0, 2 * math.pi)),
        )

    def paint(self, rng: Rng, pose: Pose) -> Float:
        """One instance, (side, side, 3) float32, about 0...1."""
        field = self.first(rng, pose)
        if self.second is not None:
            share = np.float32(self.share)
            field = share * field + (1 - share) * self.second(rng, pose)
        index = np.clip(field * (_TONES - 1), 0, _TONES - 1).astype(np.int32)
        image = self.ramp[index]
        if self.relief > 0:
            slope = math.cos(self.lamp) * cv2.Sobel(field, -1, 1, 0) / 4
            slope = slope + math.sin(self.lamp) * cv2.Sobel(field, -1, 0, 1) / 4
            image = image * (1 + np.clip(np.float32(self.relief) * slope, -0.6, 0.6))[..., None]
        return np.asarray(image, dtype=np.float32)


@dataclass(frozen=True)
class Tolerance:
    """How much the pose varies: standard deviations, or everything."""

    shift: float
    turn: float
    scale: float
    anywhere: bool
    any_turn: bool

    def draw(self, rng: Rng, side: int) -> Pose:
        """The pose of one image."""
        x, y, angle, scale = (float(value) for value in rng.normal(0, 1, 4))
        x, y, angle, scale = x * self.shift, y * self.shift, angle * self.turn, scale * self.scale
        if self.anywhere:
            x, y = (float(value) for value in rng.uniform(-0.25, 0.25, 2))
        if self.any_turn:
            angle = float(rng.uniform(0, 2 * math.pi))
        return Pose(side, x, y, angle, math.exp(scale))


@dataclass(frozen=True)
class Camera:
    """The lamp and the camera: set once for a category, each varying a little."""

    gain: float
    tint: float
    slope: float
    uneven: float
    focus: float
    noise: float

    @classmethod
    def draw_one(cls, rng: Rng) -> Camera:
        """A random station."""
        return cls(
            gain=float(rng.uniform(0.005, 0.08)),
            tint=float(rng.uniform(0, 0.02)),
            slope=float(rng.choice([0.0, rng.uniform(0, 0.25)])),
            uneven=float(rng.choice([0.0, rng.uniform(0, 0.06)])),
            focus=float(rng.choice([0.0, rng.uniform(0, 1.0)])),
            noise=float(np.exp(rng.uniform(math.log(0.002), math.log(0.02)))),
        )

    def light(self, rng: Rng, side: int) -> tuple[Float, float]:
        """One state of it: factor on each pixel and colour (side, side, 3), and blur in pixels."""
        axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
        u, v = (float(value) for value in rng.normal(0, self.slope / 2, 2))
        field = 1 + u * axis[None, :] + v * axis[:, None]
        if self.uneven > 0:
            field = field + np.float32(self.uneven) * noise(rng, side, 2.0)
        colour = np.exp(rng.normal(0, self.gain) + rng.normal(0, self.tint, 3)).astype(np.float32)
        blur = max(0.0, self.focus + float(rng.normal(0, 0.12)))
        return np.asarray(field[..., None] * colour, dtype=np.float32), blur


@dataclass(frozen=True)
class Category:
    """A recipe. `aligned` says that everything lies at the same place in every image."""

    ground: Surface
    ground_pose: Tolerance
    face: Surface | None
    outline: Float
    rim: float
    layout: Layout | None
    pose: Tolerance
    camera: Camera

    @property
    def aligned(self) -> bool:
        """Whether a patch may be compared with the same place of another image."""
        loose = self.ground_pose.anywhere or self.ground_pose.any_turn
        return not (self.pose.any_turn or (loose and self.layout is None and self.face is None))

    @classmethod
    def draw_one(cls, rng: Rng, families: list[str], intricate: bool) -> Category:
        """A random category; an intricate one is likelier to have a layout, and a crowded one."""
        loose, turned = bool(rng.random() < 0.5), bool(rng.random() < 0.25)
        has_face, has_layout = rng.random() < 0.45, rng.random() < (0.6 if intricate else 0.4)
        crowd = int(rng.integers(0, 4)) if intricate else 0
        reach = float(rng.uniform(0.25, 0.42))
        corners = int(rng.choice([3, 4, 4, 5, 6, 8, 40, 40]))
        t = (np.arange(corners) + 0.5) * (2 * math.pi / corners)
        squash = float(rng.uniform(0.6, 1))
        outline = np.stack([np.cos(t), np.sin(t) * squash], axis=1) * reach * 1.15
        small = float(np.exp(rng.uniform(math.log(0.001), math.log(0.015))))
        return cls(
            ground=Surface.draw_one(rng, families),
            ground_pose=Tolerance(small, small, small, loose, loose and bool(rng.random() < 0.2)),
            face=Surface.draw_one(rng, families) if has_face else None,
            outline=outline.astype(np.float32),
            rim=float(rng.choice([0.0, rng.uniform(0.01, 0.03)])),
            layout=Layout(rng, reach * (0.65 if has_face else 1.1), crowd) if has_layout else None,
            pose=Tolerance(small, small * 1.5, small, False, turned and bool(has_face)),
            camera=Camera.draw_one(rng),
        )

    def render(
        self, seed: int, side: int, elements: list[Element] | None = None, bare: bool = False
    ) -> Float:
        """The instance `seed` before the camera, (side, side, 3) float32, 0...1.

        `elements` is a wrong version of the layout; `bare` leaves out all but the ground.
        """
        rng = np.random.default_rng(seed)
        ground_pose, pose = self.ground_pose.draw(rng, side), self.pose.draw(rng, side)
        image = self.ground.paint(rng, ground_pose)
        if bare:
            return np.clip(image, 0, 1)
        if self.face is not None:
            polygon = pose.pixels(self.outline)
            mask = cover(side, [polygon])[..., None]
            image = image + mask * (self.face.paint(rng, pose) - image)
            if self.rim > 0:
                dark = np.float32(0.6) * cover(side, [polygon], self.rim * side)
                image = image * (1 - dark[..., None])
        image = np.clip(image, 0, 1)
        if self.layout is None:
            return np.asarray(image, dtype=np.float32)
        painted = np.ascontiguousarray((image * 255).astype(np.uint8))
        self.layout.draw(rng, pose, painted, self.layout.elements if elements is None else elements)
        return painted.astype(np.float32) * np.float32(1 / 255)

    def photograph(
        self, rng: Rng, scene: Float, changed: Float | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Image (side, side, 3) uint8 of `changed` or else `scene`, and where the two differ."""
        side = scene.shape[0]
        field, blur = self.camera.light(rng, side)

        def expose(image: Float) -> Float:
            lit = image * field
            return np.asarray(cv2.GaussianBlur(lit, (0, 0), blur) if blur > 0.25 else lit)

        clean = expose(scene)
        shown = clean if changed is None else expose(changed)
        mask = np.abs(shown - clean).max(axis=2) > max(VISIBLE, 1.2 * self.camera.noise)
        sensor = rng.standard_normal(shown.shape, dtype=np.float32) * np.float32(self.camera.noise)
        image = np.clip((shown + sensor) * 255 + 0.5, 0, 255).astype(np.uint8)
        return image, mask


@dataclass(frozen=True)
class Episode:
    """Images of one category.

    Attributes:
        good: (k, H, W, 3) uint8 RGB.
        disturbed: (k, H, W, 3) uint8 RGB.
        masks: (k, H, W) bool, True where a pixel of `disturbed` was changed.
        aligned: whether places correspond between the images.
    """

    good: NDArray[np.uint8]
    disturbed: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    aligned: bool


def families(held_out: bool) -> list[str]:
    """Names of the texture families for training, or of those kept for evaluation."""
    return [name for name in FAMILIES if (name in HELD_OUT) == held_out]


def draw_episode(
    seed: tuple[int, ...],
    *,
    good: int,
    disturbed: int,
    side: int,
    intricate: bool,
    held_out: bool = False,
) -> Episode:
    """One episode; equal arguments give equal images."""
    rng = np.random.default_rng(seed)
    names = families(held_out)
    category = Category.draw_one(rng, names, intricate)
    other = Category.draw_one(rng, names, intricate)

    def instance() -> int:
        return int(rng.integers(2**62))

    scenes = (category.render(instance(), side) for _ in range(good))
    fine = [category.photograph(rng, scene, None)[0] for scene in scenes]
    donor = other.render(instance(), side)
    images, masks = [], []
    for _ in range(disturbed):
        image, mask = _disturbed(rng, category, instance(), side, donor, intricate)
        images.append(image)
        masks.append(mask)
    return Episode(np.stack(fine), np.stack(images), np.stack(masks), category.aligned)


def _disturbed(
    rng: Rng, category: Category, seed: int, side: int, donor: Float, intricate: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One disturbed image with its mask; tries again while nothing can be seen."""
    scene = category.render(seed, side)
    for _ in range(4):
        if intricate and category.face is not None and rng.random() < 0.2:
            changed = chip(rng, scene, category.render(seed, side, bare=True))
        elif category.layout is not None and rng.random() < 0.4:
            changed = category.render(seed, side, category.layout.spoil(rng))
        else:
            changed = disturb(rng, scene, donor)
        image, mask = category.photograph(rng, scene, changed)
        if mask.sum() >= 6:
            break
    return image, mask
